"""What a measurement tells while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ._lane import Lane
from .order_statistics import Interval, percentile_interval

__all__ = ["Phase", "Progress", "Running", "running"]

Phase = Literal["load", "warm-up", "pilot", "measure", "profile"]


@dataclass(frozen=True)
class Running:
    """What is known of one candidate while it is measured; the median and its interval in nanoseconds."""

    name: str
    queries: int
    median_ns: float | None
    interval: Interval | None
    failed: str | None


@dataclass(frozen=True)
class Progress:
    """Where a measurement stands.

    Attributes:
        phase: what is being done.
        candidate: to which candidate; empty while all are measured.
        done: share of the phase that is done, 0 to 1.
        remaining_s: estimate of the time the phase still takes; None while there is no telling.
        running: each candidate so far.
    """

    phase: Phase
    candidate: str
    done: float
    remaining_s: float | None
    running: tuple[Running, ...]


def running(lane: Lane, confidence: float) -> Running:
    """What is known of a candidate now."""
    failed = None if lane.failure is None else lane.failure.reason
    if not lane.measured.queries:
        return Running(lane.candidate.name, 0, None, None, failed)
    ordered = np.sort(lane.measured.samples().latency_ns)
    interval = percentile_interval(ordered, 50, confidence)
    return Running(lane.candidate.name, len(ordered), float(np.median(ordered)), interval, failed)
