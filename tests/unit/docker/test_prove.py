"""The reader of Dockerfiles that carries their steps out where there is no Docker."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def prove() -> ModuleType:
    import sys

    spec = importlib.util.spec_from_file_location("prove", ROOT / "docker" / "prove.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["prove"] = module  # where dataclasses look for the types of their fields
    spec.loader.exec_module(module)
    return module


def test_continued_lines_are_joined_and_comments_left_out(prove) -> None:
    text = '# how to run it\nFROM debian:bookworm-slim AS build\nRUN one \\\n    && two\n\n# more\nCMD ["doctor"]\n'
    assert list(prove.steps(text)) == [
        ("FROM", "debian:bookworm-slim AS build"),
        ("RUN", "one && two"),
        ("CMD", '["doctor"]'),
    ]


def test_every_step_of_the_cpu_image_is_one_that_it_knows(prove) -> None:
    text = (ROOT / "docker" / "cpu.Dockerfile").read_text(encoding="utf-8")
    assert {name for name, _ in prove.steps(text)} <= set(prove.STEPS)


@pytest.mark.parametrize("image", ["debian:bookworm", "debian:bookworm-slim", "debian:bookworm-20260824-slim"])
def test_a_suite_is_read_from_a_tag(prove, image: str) -> None:
    assert prove.suite_of(image) == "bookworm"


def test_another_image_cannot_be_made_and_says_so(prove) -> None:
    with pytest.raises(SystemExit, match=r"nvcr\.io/x:1 is no image of Debian's"):
        prove.suite_of("nvcr.io/x:1")


def test_names_are_put_in_from_earlier_steps(prove) -> None:
    assert prove.expanded("/opt/bin:$PATH:${HOME}$GONE", {"PATH": "/bin", "HOME": "/h"}) == "/opt/bin:/bin:/h"


def test_a_copied_folder_gives_what_is_in_it_and_files_go_into_a_folder(prove, tmp_path: Path) -> None:
    context, root, other = tmp_path / "context", tmp_path / "root", tmp_path / "other"
    (context / "package" / "__pycache__").mkdir(parents=True)
    (context / "package" / "code.py").write_text("1")
    (context / "one.txt").write_text("1")
    (context / "two.txt").write_text("2")
    (other / "opt").mkdir(parents=True)
    (other / "opt" / "tool").write_text("3")
    root.mkdir()
    stage = prove.Stage(root, workdir="/source")
    prove.copy(stage, {}, "package package", context)
    prove.copy(stage, {}, "one.txt two.txt ./", context)
    prove.copy(stage, {"build": prove.Stage(other)}, "--from=build /opt /opt", context)
    found = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    assert found == ["opt/tool", "source/one.txt", "source/package/code.py", "source/two.txt"]
