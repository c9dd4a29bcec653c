from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.benchmarks.triggers import read_trigger_file
from edgevit.errors import InputError


def test_times_become_gaps_and_comments_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("# line 3, morning\n100.5\n\n110.5 # part 2\n110.5\n130\n")
    assert read_trigger_file(path) == (10.0, 0.0, 19.5)


@pytest.mark.parametrize(
    "content, said",
    [
        ("1\nx\n", "line 2 of .* is 'x'; wanted a time in ms"),
        ("1\nnan\n", "line 2 of .* is 'nan'"),
        ("2\n1\n", "line 2 of .* is '1'; wanted a time in ms, not before the one above"),
        ("", "has no two different times"),
        ("5\n5\n", "has no two different times"),
    ],
)
def test_a_file_of_no_triggers_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "t.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        read_trigger_file(path)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_trigger_file(tmp_path / "none.txt")
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        read_trigger_file(tmp_path / "b")
