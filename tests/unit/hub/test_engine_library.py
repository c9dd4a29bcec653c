"""Libraries that are not installed, that are installed and broken, and how each is told apart in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from edgevit.engine_library import load_library, loading
from edgevit.engine_record import Library
from edgevit.errors import InputError, MissingExtra

BROKEN = {
    "a shared object": "raise ImportError('libnvinfer.so.10: cannot open\\nshared object file')",
    "another module": "import a_library_that_is_not_there",
    "a dlopen": "raise OSError('libcudart.so.12')",
    "anything else": "raise AttributeError('module numpy has no attribute bool')",
}


@pytest.fixture(params=BROKEN.values(), ids=BROKEN)
def broken(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text(request.param)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)


def test_a_library_that_is_installed_and_does_not_load_is_one_line(broken: None) -> None:
    with pytest.raises(InputError, match=r"^tensorrt is installed and does not load \(.+\); mend the inst") as caught:
        load_library("tensorrt")
    assert not isinstance(caught.value, MissingExtra) and "\n" not in str(caught.value)


@pytest.mark.parametrize("library, extra", [("tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt-rtx")])
def test_a_library_that_is_not_there_names_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, library: Library, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"edgevit\[{extra}\]"):
        load_library(library)


def test_type_stubs_are_not_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    with pytest.raises(MissingExtra):
        load_library("tensorrt")


def test_the_parts_of_a_library_are_missing_with_it() -> None:
    with pytest.raises(MissingExtra), loading("cuda.bindings", "tensorrt", "cuda"):
        raise ModuleNotFoundError("No module named 'cuda'", name="cuda")
