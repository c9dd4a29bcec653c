"""The constants of a graph that may be given other values when it is loaded: what they are called, what they do.

Steps count from 0, and the first, which takes every token, has none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgevit.spec import RoutingSpec
from edgevit.thresholds import EVERYTHING

__all__ = ["cap_name", "capping", "forcing", "level_name", "threshold_name"]


def cap_name(step: int) -> str:
    """The most tokens that a step of an adaptive graph goes on with, int64 scalar; N in a graph as exported."""
    return f"cap[{step}]"


def threshold_name(step: int) -> str:
    """The number that a step's router logits must exceed under expert choice by threshold, float32 scalar."""
    return f"threshold[{step}]"


def level_name(step: int) -> str:
    """The depth that the router must choose for a step under token choice, int64 scalar."""
    return f"level[{step}]"


def capping(routing: RoutingSpec, caps: Sequence[int]) -> dict[str, np.ndarray]:
    """The constants under which each step after the first goes on with so many tokens at most.

    Args:
        routing: of an adaptive graph.
        caps: for each step after the first. A step with one rung has no cap, and what is said of it is left out.
    """
    return {
        cap_name(step): np.array(cap, np.int64)
        for step, (cap, rungs) in enumerate(zip(caps, routing.budgets, strict=True), start=1)
        if len(rungs) > 1
    }


def forcing(routing: RoutingSpec, caps: Sequence[int]) -> dict[str, np.ndarray]:
    """The constants under which each step after the first goes on with just so many tokens, whatever the picture.

    Every token wants every step, and the caps let so many through: of a step the lower of its cap and the one before.

    Args:
        routing: of an adaptive graph.
        caps: for each step after the first.
    """
    wanted: dict[str, np.ndarray] = {}
    for step in range(1, routing.steps):
        if routing.router == "token_choice":
            wanted[level_name(step)] = np.array(0, np.int64)
        else:
            wanted[threshold_name(step)] = np.array(EVERYTHING, np.float32)
    return wanted | capping(routing, caps)
