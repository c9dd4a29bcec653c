"""Whether paced queries kept pace."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .measurement import Samples

__all__ = ["Pace", "keep_pace"]


@dataclass(frozen=True)
class Pace:
    """How service kept up with arrivals.

    Attributes:
        utilisation: mean service time over mean gap between arrivals; at 1 and above a queue grows without end.
        late_queries: queries that started later than intended by more than a millisecond.
        most_behind_ns: the most that a query started late.
        behind_at_end_ns: how late the last query of a block started, in the worst block; a longer one adds to it.
    """

    utilisation: float
    late_queries: int
    most_behind_ns: int
    behind_at_end_ns: int


def keep_pace(samples: Samples) -> Pace | None:
    """How paced queries kept pace; None for fewer than two in a block."""
    same_block = np.diff(samples.block) == 0
    gaps = np.diff(samples.intended_ns)[same_block]
    if not len(gaps):
        return None
    behind = samples.start_ns - samples.intended_ns
    last = np.append(~same_block, True)
    return Pace(
        utilisation=float(samples.service_ns.mean() / gaps.mean()),
        late_queries=int((behind > 1_000_000).sum()),
        most_behind_ns=int(behind.max()),
        behind_at_end_ns=int(behind[last].max()),
    )
