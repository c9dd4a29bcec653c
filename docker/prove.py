"""Run the steps of a Dockerfile in fresh Debian roots, where there is no Docker, and what they made.

    sudo python3 docker/prove.py docker/cpu.Dockerfile [--bundle FOLDER --image FILE] [--roots FOLDER]

Each FROM is a root made by debootstrap for the suite that its tag names, each RUN a shell in that root, each COPY a
copy. At the end the health check and the default command are run as the image's user, and with --bundle and --image a
prediction. Only images of Debian's are known, and of the instructions those in `STEPS`. It needs root and debootstrap;
each RUN is lent the machine's name resolution, certificates and settings of pip.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

STEPS = ("FROM", "RUN", "COPY", "ENV", "WORKDIR", "USER", "HEALTHCHECK", "ENTRYPOINT", "CMD")
_RESOLVER, _CERTIFICATES = "/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt"
# Beside the root's own, which installing ca-certificates writes anew.
_LENT_CERTIFICATES = "/run/lent-certificates.crt"
_SETTINGS = ("pip_", "http_proxy", "https_proxy", "no_proxy", "ssl_cert_file", "requests_ca_bundle")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Stage:
    """A root between two FROMs, and what the next step runs under."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    workdir: str = "/"
    user: str = "root"
    healthcheck: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Instructions with what follows them, continued lines joined, comments left out."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for step in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if step.strip():
            name, _, rest = step.strip().partition(" ")
            yield name.upper(), " ".join(rest.split())


def suite_of(image: str) -> str:
    """`debian:bookworm-20260824-slim` is made by debootstrap as `bookworm`."""
    found = re.fullmatch(r"debian:([a-z]+)(-\d{8})?(-slim)?", image)
    if found is None:
        raise SystemExit(f"prove: {image} is no image of Debian's; only those can be made without a registry")
    return found[1]


def expanded(text: str, environment: dict[str, str]) -> str:
    """`$NAME` and `${NAME}` of earlier ENVs; unknown ones are empty, as in a Dockerfile."""
    return re.sub(r"\$\{?(\w+)\}?", lambda found: environment.get(found[1], ""), text)


def inside(stage: Stage, command: list[str], lent: dict[str, str] | None = None) -> None:
    """Run a command in a root, with a /proc and processes of its own."""
    chroot = ["chroot", f"--userspec={stage.user}", str(stage.root)]
    shell = ["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", stage.workdir, *command]
    environment = {**stage.environment, **(lent or {})}
    environment["HOME"] = "/root" if stage.user == "root" else stage.workdir
    space = ["unshare", "--mount", "--pid", "--fork", f"--mount-proc={stage.root / 'proc'}"]
    subprocess.run([*space, *chroot, *shell], env=environment, stdin=subprocess.DEVNULL, check=True)


def copy(stage: Stage, stages: dict[str, Stage], rest: str, context: Path) -> None:
    """COPY: a folder gives what is in it, files go into the folder; `--from` takes from another stage."""
    words = shlex.split(rest)
    options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    *sources, target = (word for word in words if not word.startswith("--"))
    base = stages[options["from"]].root if "from" in options else context
    into = stage.root / os.path.join(stage.workdir, target).lstrip("/")
    for source in sources:
        path = base / source.lstrip("/")
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(path, into, symlinks=True, dirs_exist_ok=True, ignore=ignored if base is context else None)
        else:
            if len(sources) > 1 or target.endswith("/"):
                into.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, into)


def fresh_root(suite: str, path: Path, roots: Path) -> None:
    """A copy of a root that debootstrap made, made now if it is the first of its suite."""
    base = roots / f"base-{suite}"
    if not base.exists():
        made = roots / f"base-{suite}.partial"
        shutil.rmtree(made, ignore_errors=True)
        subprocess.run(["debootstrap", "--variant=minbase", suite, str(made)], check=True)
        made.rename(base)
    shutil.rmtree(path, ignore_errors=True)
    subprocess.run(["cp", "-a", str(base), str(path)], check=True)


def lend(stage: Stage) -> dict[str, str]:
    """Put what this machine reaches its registries with into a root; the settings that name it."""
    shutil.copy(_RESOLVER, stage.root / _RESOLVER[1:])
    if Path(_CERTIFICATES).exists():
        shutil.copy(_CERTIFICATES, stage.root / _LENT_CERTIFICATES[1:])
    own = {name: value for name, value in os.environ.items() if name.lower().startswith(_SETTINGS)}
    return {name: _LENT_CERTIFICATES if value == _CERTIFICATES else value for name, value in own.items()}


def take_back(stage: Stage) -> None:
    """Leave nothing of this machine behind."""
    for path in (_RESOLVER, _LENT_CERTIFICATES):
        (stage.root / path[1:]).unlink(missing_ok=True)


def size_bytes(root: Path) -> int:
    """What a root takes on disk."""
    told = subprocess.run(["du", "-sk", str(root)], capture_output=True, text=True, check=True).stdout
    return 1024 * int(told.split()[0])


def build(dockerfile: Path, context: Path, roots: Path) -> Stage:
    """Carry out every step; the last stage."""
    stages: dict[str, Stage] = {}
    stage = None
    for name, rest in steps(dockerfile.read_text(encoding="utf-8")):
        print(f"prove: {name} {rest}", flush=True)
        if name == "FROM":
            image, _, alias = rest.partition(" AS ")
            stage = Stage(roots / f"stage-{len(stages)}")
            fresh_root(suite_of(image), stage.root, roots)
            stages[alias or str(len(stages))] = stage
        elif stage is None or name not in STEPS:
            raise SystemExit(f"prove: cannot carry out '{name}'; known are {', '.join(STEPS)}")
        elif name == "RUN":
            inside(stage, ["/bin/sh", "-c", rest], lend(stage))
            take_back(stage)
        elif name == "COPY":
            copy(stage, stages, expanded(rest, stage.environment), context)
        elif name == "ENV":
            pairs = (word.split("=", 1) for word in shlex.split(expanded(rest, stage.environment)))
            stage.environment |= {key: value for key, value in pairs}
        elif name == "WORKDIR":
            stage.workdir = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "USER":
            stage.user = rest
        elif name == "HEALTHCHECK":
            stage.healthcheck = json.loads(rest.partition("CMD ")[2])
        else:
            setattr(stage, {"ENTRYPOINT": "entrypoint", "CMD": "command"}[name], json.loads(rest))
    assert stage is not None, "a Dockerfile has a FROM"
    return stage


def main() -> None:
    """Build, then use what was built."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("--bundle", type=Path, help="a bundle to put at /bundle")
    parser.add_argument("--image", type=Path, help="a picture to predict with it")
    parser.add_argument("--roots", type=Path, default=Path("runs/roots"), help="where the roots are made")
    arguments = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise SystemExit("prove: needs root and debootstrap; run: apt-get install debootstrap, then this with sudo")
    arguments.roots.mkdir(parents=True, exist_ok=True)
    stage = build(arguments.dockerfile, Path(__file__).resolve().parents[1], arguments.roots.resolve())
    added = size_bytes(stage.root) - size_bytes(next(arguments.roots.glob("base-*")))
    if arguments.bundle is not None:
        shutil.copytree(arguments.bundle, stage.root / "bundle", dirs_exist_ok=True)
    print("prove: HEALTHCHECK", flush=True)
    inside(stage, stage.healthcheck)
    print("prove: ENTRYPOINT with CMD", flush=True)
    inside(stage, [*stage.entrypoint, *stage.command])
    if arguments.bundle is not None and arguments.image is not None:
        shutil.copy(arguments.image, stage.root / "tmp" / arguments.image.name)
        inside(stage, [*stage.entrypoint, "predict", "/bundle", f"/tmp/{arguments.image.name}"])
    for absent in ("torch", "onnx"):
        inside(stage, ["python3", "-c", f"import importlib.util as u; assert u.find_spec('{absent}') is None"])
    print(f"prove: {arguments.dockerfile} works, adds {added / 1e6:.0f} MB to its base, and has neither torch nor onnx")


if __name__ == "__main__":
    main()
