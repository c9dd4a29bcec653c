"""Facts about the repository itself: packaging metadata, pins, and what no file of it may contain."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml, which needs Python 3.11")

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
EXTRAS = {"export", "cpu", "tensorrt", "tensorrt-rtx", "openvino", "zoo", "train", "bench", "app", "dev", "all"}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# A folder of somebody's machine. Written so that this line does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:home|root|Users|work|tmp|mnt)/\w")
PACKAGE_HOST = re.compile(
    r"pypi[.](?:org|nvidia)|python[h]osted[.]|download[.]pytorch|-index-ur[l]|find-link[s]|PIP_[A-Z]", re.I
)


def repository_files() -> list[Path]:
    """What git holds or would add: caches and environments are left out by .gitignore."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: no list of the repository's files")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    paths = [ROOT / os.fsdecode(name) for name in listing.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file()]


def lines_matching(pattern: re.Pattern[str]) -> list[str]:
    """`file:line: text` for every line of the repository's text files that matches."""
    found = []
    for path in repository_files():
        data = path.read_bytes()
        if b"\0" in data:
            continue
        for number, line in enumerate(data.decode("utf-8").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    return found


def requirements(extras: set[str]) -> list[Requirement]:
    """What the distribution asks for with some extras, references from extra to extra resolved."""
    asked = list(map(Requirement, PROJECT["project"]["dependencies"]))
    for extra in extras:
        for requirement in map(Requirement, PROJECT["project"]["optional-dependencies"][extra]):
            asked += requirements(requirement.extras) if requirement.name == "edgevit" else [requirement]
    return asked


def pins(file: str) -> list[Requirement]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def applies(requirement: Requirement, python: str) -> bool:
    environment = {"python_version": python, "platform_machine": "x86_64", "sys_platform": "linux"}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def unpinned(file: str, extras: set[str], python: str) -> list[str]:
    """Every requirement that does not have exactly one fitting pin, with what it has."""
    wrong = []
    for requirement in requirements(extras):
        if not applies(requirement, python):
            continue
        name = canonicalize_name(requirement.name)
        found = [pin for pin in pins(file) if canonicalize_name(pin.name) == name and applies(pin, python)]
        versions = [next(iter(pin.specifier)).version for pin in found]
        if len(versions) != 1 or not requirement.specifier.contains(versions[0]):
            wrong.append(f"{requirement}: pinned as {versions or 'nothing'}")
    return wrong


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    found = lines_matching(MACHINE_PATH)
    assert not found, "write paths relative to the repository:\n" + "\n".join(found)


def test_no_file_names_where_packages_come_from() -> None:
    found = lines_matching(PACKAGE_HOST)
    assert not found, "where packages come from is the user's pip configuration; name the package alone:\n" + "\n".join(
        found
    )


@pytest.mark.parametrize("folder", ["home", "root", "Users", "work", "tmp", "mnt"])
def test_a_machine_path_is_recognised(folder: str) -> None:
    # Put together here, since this file is searched too.
    assert MACHINE_PATH.search(f"cd /{folder}/x")
    assert MACHINE_PATH.search(f"open('/{folder}/x')")


@pytest.mark.parametrize(
    "line", ["train/ and val/", "a/home/b", "~/home/b", "https://example.org/home/x", "#!/usr/bin/env bash"]
)
def test_other_slashes_are_not_machine_paths(line: str) -> None:
    assert not MACHINE_PATH.search(line)


def test_the_extras_are_those_of_the_design() -> None:
    assert set(PROJECT["project"]["optional-dependencies"]) == EXTRAS


def test_all_means_every_extra_but_the_zoo() -> None:
    (everything,) = map(Requirement, PROJECT["project"]["optional-dependencies"]["all"])
    assert everything.extras == EXTRAS - {"zoo", "all"}


def test_the_core_needs_four_libraries() -> None:
    assert {requirement.name for requirement in requirements(set())} == {"numpy", "pillow", "typer", "rich"}


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-zoo.txt"])
def test_a_constraint_is_a_name_and_one_version(file: str) -> None:
    line = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.+]*(; python_version (<|>=) \"3\.1[0-3]\")?")
    wrong = [
        text for text in (ROOT / file).read_text().splitlines() if text and text[0] != "#" and not line.fullmatch(text)
    ]
    assert not wrong, f"write name==version, at most with a python_version marker: {wrong}"


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_has_one_pin_on_each_python(python: str) -> None:
    assert unpinned("constraints.txt", EXTRAS - {"zoo"}, python) == []


@pytest.mark.parametrize("python", PYTHONS[1:])
def test_the_environment_with_timm_is_pinned_too(python: str) -> None:
    assert unpinned("constraints-zoo.txt", {"export", "cpu", "train", "bench", "zoo", "dev"}, python) == []


def test_the_environment_with_timm_differs_in_torch_alone() -> None:
    main = {pin.name: pin.specifier for pin in pins("constraints.txt") if applies(pin, "3.11")}
    differing = {pin.name for pin in pins("constraints-zoo.txt") if main.get(pin.name, pin.specifier) != pin.specifier}
    assert differing == {"torch"}


def test_every_package_on_disk_is_listed_for_the_wheel() -> None:
    folders = {
        "edgevit": "edgevit",
        "export": "edgevit.export",
        "runtimes": "edgevit.runtimes",
        "benchmarks": "edgevit.benchmarks",
    }
    on_disk = set()
    for folder, package in folders.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            below = init.parent.relative_to(ROOT / folder).parts
            on_disk.add(".".join((package, *below)))
    assert on_disk == set(PROJECT["tool"]["setuptools"]["packages"]), "list it under [tool.setuptools] packages"


def test_the_weights_that_ship_stay_under_16_mb() -> None:
    weights = list((ROOT / "edgevit/weights").glob("*.safetensors"))
    assert sum(path.stat().st_size for path in weights) <= 16_000_000


def test_every_pre_commit_hook_is_local() -> None:
    lines = (ROOT / ".pre-commit-config.yaml").read_text().splitlines()
    repositories = [line.split("repo:")[1].strip() for line in lines if "repo:" in line and not line.startswith("#")]
    assert repositories == ["local"]


def test_continuous_integration_calls_make_test() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK), "chmod +x .ci/run"
    assert script.read_text().splitlines()[-1] == "exec make --no-print-directory test </dev/null"
