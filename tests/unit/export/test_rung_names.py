from __future__ import annotations

import pytest

from edgevit.export.rung_names import rung_suffix, without_rung


@pytest.mark.parametrize(
    "name, common, suffix",
    [
        ("blocks.0[1].mlp.0/Gemm@16", "blocks.0[1].mlp.0/Gemm", "@16"),
        ("blocks.0[1].mlp.0/Gemm@16:0", "blocks.0[1].mlp.0/Gemm:0", "@16"),
        ("blocks.0[0].mlp.0/Gemm", "blocks.0[0].mlp.0/Gemm", ""),
        ("ladder[1]@16/TopK_0:1", "ladder[1]@16/TopK_0:1", ""),
        (None, "", ""),
    ],
)
def test_the_rung_is_what_stands_at_the_end(name: str | None, common: str, suffix: str) -> None:
    assert without_rung(name) == common
    assert rung_suffix(name) == suffix


def test_two_nodes_of_a_rung_stay_two() -> None:
    names = ["a/Gemm@16", "a/Gemm@16_1", "a/Gemm_1@16", "a/Gemm@16_1:0", "a/Gemm_1@16:0"]
    assert len({without_rung(name) for name in names}) == len(names)
    assert without_rung("a/Gemm@16_1") == without_rung("a/Gemm@256_1")
