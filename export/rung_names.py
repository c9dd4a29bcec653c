"""What the copies of a node in the rungs of a step have in common: their name, but for `@` and the rung at its end."""

from __future__ import annotations

import re

__all__ = ["rung_suffix", "without_rung"]

# Of `blocks.0[1].mlp.0/Gemm@16:0`; `ladder[1]@16/TopK_0` selects for one rung and has no like in another.
_RUNG = re.compile(r"@\d+(?=(_\d+)?(:\d+)?$)")


def without_rung(name: str | None) -> str:
    """The name of a node or value as every rung has it; as it is, if it is of no rung."""
    # `Gemm@16_1` is another node than `Gemm_1@16`, and has to stay one.
    return _RUNG.sub(lambda found: "@" if found[1] else "", name or "")


def rung_suffix(name: str | None) -> str:
    """`@16` of a node or value of the rung of 16 patches; empty if it is of no rung."""
    found = _RUNG.search(name or "")
    return found.group() if found else ""
