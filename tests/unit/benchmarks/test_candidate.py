from __future__ import annotations

import math
from pathlib import Path

import pytest

from edgevit.benchmarks.candidate import Candidate, validate_together
from edgevit.errors import InputError


def plain(name: str = "a", **fields: object) -> Candidate:
    return Candidate(name=name, factory="scripted:make", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "candidate, said",
    [
        (plain(name=" "), "empty name"),
        (Candidate(name="a", factory="scripted.make"), "is not 'module:function'"),
        (Candidate(name="a", factory="scripted:"), "is not 'module:function'"),
        (plain(arguments={"path": Path("x")}), "must be JSON values"),
        (plain(arguments={"x": math.nan}), "must be JSON values"),
        (plain(images=Path("no/such.npy")), "images file 'no/such.npy' of candidate 'a' does not exist"),
    ],
)
def test_a_candidate_that_no_process_could_build_is_refused(candidate: Candidate, said: str) -> None:
    with pytest.raises(InputError, match=said):
        candidate.validate()


def test_candidates_must_fit_together(tmp_path: Path) -> None:
    images = tmp_path / "images.npy"
    images.write_bytes(b"")
    with pytest.raises(InputError, match="nothing to measure"):
        validate_together([])
    with pytest.raises(InputError, match="two candidates are named 'a'"):
        validate_together([plain(), plain()])
    with pytest.raises(InputError, match="candidate 'a' has images and 'b' has none"):
        validate_together([plain(images=images), plain("b")])
    with pytest.raises(InputError, match="worst case of 'c', which is not measured here"):
        validate_together([plain(), plain("b", worst_case_of="c")])
    validate_together([plain(), plain("b", worst_case_of="a")])
