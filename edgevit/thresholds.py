"""Where to put a threshold on router logits: between two of them, so that a wanted number lies above."""

from __future__ import annotations

import numpy as np

__all__ = ["EVERYTHING", "NOTHING", "separating_threshold"]

# As finite float32 numbers, since a threshold is a constant of a graph.
NOTHING = float(np.finfo(np.float32).max)
EVERYTHING = -NOTHING


def separating_threshold(logits: np.ndarray, wanted: int) -> float:
    """The number above which lie as near to `wanted` of the logits as can be, but at least one.

    Halfway between two logits, so that rounding on another machine moves no patch across. Equal logits cannot be
    separated; then it is as many as come nearest.

    Args:
        logits: n float32, n at least 1, in any order.
        wanted: how many are to be above.
    """
    # How many logits a threshold below each value would let through.
    values, counts = np.unique(logits.astype(np.float32), return_counts=True)
    values, taken = values[::-1], counts[::-1].cumsum()
    last = int(np.abs(taken - wanted).argmin())
    if last + 1 == len(values):
        return EVERYTHING  # no patch of any picture is to stay behind
    upper, lower = float(values[last]), float(values[last + 1])
    middle = float(np.float32((upper + lower) / 2))
    return middle if middle < upper else lower
