"""The wheel in a bare environment, from an empty folder: no torch, no onnx, and everything a device needs still works.

The checkout would hide what the wheel lacks (its folder `edgevit/` comes first on sys.path), so each Python runs
in a folder of its own with nothing but the wheel and the core's four libraries.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("edgevit", "export", "runtimes", "benchmarks")
OLDEST, NEWEST = "3.10", "3.13"
CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Bare:
    """An environment with the wheel and the core alone, and an empty folder to run in."""

    scripts: Path
    folder: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, as its user would: outside the checkout, on no terminal."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment = {**clean, "PATH": f"{self.scripts}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}
        return subprocess.run(
            [str(self.scripts / command[0]), *command[1:]],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def python(self, code: str, *arguments: str) -> str:
        """What a program prints; a warning or an error fails."""
        done = self.run("python", "-W", "error", "-c", code, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


def find_python(version: str) -> str | None:
    """An interpreter of that version that runs and can make environments: this one, on PATH, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [sys.executable] if version == CURRENT else []
    candidates += filter(None, [shutil.which(f"python{version}")])
    candidates += map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}")))
    probe = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        # A pyenv shim is on PATH for versions it will not run.
        done = subprocess.run([candidate, "-c", probe], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip() == version:
            return candidate
    return None


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: building in the checkout would take in what an older build left in build/lib."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, copy)
    out = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        str(copy),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    (built,) = out.glob("edgevit-*.whl")
    return built


@pytest.fixture(scope="session", params=sorted({OLDEST, CURRENT, NEWEST}))
def bare(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """The wheel installed with its core dependencies and no extra, on one Python."""
    version: str = request.param
    python = find_python(version)
    if python is None:
        pytest.skip(f"no Python {version} with venv on PATH or under pyenv")
    home = tmp_path_factory.mktemp(f"bare{version}")
    subprocess.run([python, "-m", "venv", str(home / "env")], check=True, stdin=subprocess.DEVNULL)
    bare = Bare(home / "env" / "bin", home / "empty")
    bare.folder.mkdir()
    constraints = str(ROOT / "constraints.txt")
    done = bare.run("pip", "install", "--quiet", "--disable-pip-version-check", "-c", constraints, str(wheel))
    assert done.returncode == 0, done.stderr
    return bare


def modules_of_the_device() -> list[str]:
    """The hub, runtimes and benchmarks, from the source tree; the API and the commands with them."""
    names = ["edgevit"]
    for folder, package in (
        ("edgevit", "edgevit"),
        ("runtimes", "edgevit.runtimes"),
        ("benchmarks", "edgevit.benchmarks"),
    ):
        names += [f"{package}.{path.stem}" for path in sorted((ROOT / folder).glob("*.py")) if path.stem != "__init__"]
    return names


def commands_in(help_text: str) -> list[str]:
    """The names under `Commands:` in a help page, empty for a command without commands of its own."""
    _, heading, rest = help_text.partition("\nCommands:\n")
    listing = rest.partition("\n\n")[0]
    return re.findall(r"^  ([a-z][\w-]*)", listing, re.M) if heading else []


def help_pages(bare: Bare, *command: str) -> Iterator[tuple[tuple[str, ...], subprocess.CompletedProcess[str]]]:
    """`--help` of a command and of every command below it."""
    done = bare.run("edgevit", *command, "--help")
    yield command, done
    for name in commands_in(done.stdout):
        yield from help_pages(bare, *command, name)


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {"edgevit/py.typed"}
    for path in ROOT.glob("edgevit/weights/*.safetensors"):
        wanted.add(f"edgevit/weights/{path.name}")
    for path in (ROOT / "edgevit").rglob("*.py"):
        wanted.add(path.relative_to(ROOT).as_posix())
    for folder in SOURCES[1:]:
        wanted |= {f"edgevit/{folder}/{path.name}" for path in (ROOT / folder).glob("*.py")}
    assert wanted - held == set(), "list the package or its data in pyproject.toml"
    installed = {name for name in held if ".dist-info/" not in name}
    assert installed - wanted == set(), "the wheel installs what is not part of the distribution"


def test_the_wheel_carries_licence_and_notice(wheel: Path) -> None:
    held = {Path(name).name for name in zipfile.ZipFile(wheel).namelist()}
    assert {"LICENSE", "NOTICE"} <= held


def test_the_environment_has_the_core_and_no_more(bare: Bare) -> None:
    listed = json.loads(bare.run("pip", "--disable-pip-version-check", "list", "--format", "json").stdout)
    names = {entry["name"].lower() for entry in listed}
    assert {"edgevit", "numpy", "pillow", "typer", "rich"} <= names
    assert names.isdisjoint({"torch", "onnx", "onnx-ir", "onnxruntime", "safetensors", "plotly"})


def test_every_module_of_the_device_imports_without_extras(bare: Bare) -> None:
    # One process for all of them: it is the extras that are missing, and 60 starts on three Pythons take a minute.
    attempt = (
        "import importlib, json, sys\n"
        "failed = {}\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except Exception as error:\n"
        "        failed[name] = repr(error)\n"
        "print(json.dumps(failed))"
    )
    assert json.loads(bare.python(attempt, *modules_of_the_device())) == {}


def test_importing_edgevit_loads_neither_api_nor_libraries(bare: Bare) -> None:
    loaded = bare.python("import sys, edgevit; print(edgevit.__version__, *sys.modules)").split()
    assert loaded[0] == "0.1.0"
    assert set(loaded).isdisjoint({"edgevit.api", "numpy", "PIL", "typer", "rich"})


def test_the_api_offers_its_names_without_extras(bare: Bare) -> None:
    bare.python("import edgevit; [getattr(edgevit, name) for name in edgevit.__all__]")


def test_an_unknown_name_of_the_package_is_an_attribute_error(bare: Bare) -> None:
    bare.python("import edgevit; assert not hasattr(edgevit, 'no_such_name')")


def test_the_program_and_every_command_print_their_help(bare: Bare) -> None:
    pages = list(help_pages(bare))
    failed = {" ".join(command): done.stderr for command, done in pages if done.returncode != 0 or not done.stdout}
    assert not failed
    assert len(pages) > 1, f"found no commands in the help of the program:\n{pages[0][1].stdout}"


def test_the_program_states_its_version(bare: Bare) -> None:
    done = bare.run("edgevit", "--version")
    assert done.returncode == 0, done.stderr
    assert "0.1.0" in done.stdout


def test_commands_are_read_from_a_help_page() -> None:
    options = "Usage: edgevit ...\n\nOptions:\n  --help  Show.\n"
    listing = "\nCommands:\n  list     What there is,\n           and more.\n  do-it  Does.\n"
    assert commands_in(options + listing + "\n  an epilog\n") == ["list", "do-it"]
    assert commands_in(options) == []
