from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from edgevit.errors import InputError
from edgevit.files import atomic_write, sha256


def test_a_file_is_written_and_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a", b"one")
    atomic_write(str(tmp_path / "a"), b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    atomic_write(tmp_path / "a", b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("place", ["missing/a", "file/a", "folder", "x" * 300])
def test_a_write_the_system_refuses_is_one_line_and_leaves_nothing(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"cannot be written \(.+\); make room") as caught:
        atomic_write(tmp_path / place, b"new")
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_sha256_is_sha256() -> None:
    assert sha256(b"abc") == hashlib.sha256(b"abc").hexdigest()
