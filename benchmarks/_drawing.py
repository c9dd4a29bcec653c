"""What all charts share: their type, colours, and how many points a phone can bear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .measurement import CandidateResult
from .summary import CandidateSummary

# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31")
# More points than this and a phone stutters.
MOST_POINTS = 2000
WORST_KEPT = 500
MS = 1e6


@dataclass(frozen=True)
class Chart:
    """One chart: its heading, one sentence on how to read it, and plotly's data and layout."""

    name: str
    title: str
    caption: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]


Measured = Sequence[tuple[int, CandidateResult, CandidateSummary]]


def drawn_samples(values: np.ndarray) -> np.ndarray:
    """Which samples to draw, in order: all; or the slowest and an even choice of the others."""
    if len(values) <= MOST_POINTS:
        return np.arange(len(values))
    slowest = np.argpartition(values, -WORST_KEPT)[-WORST_KEPT:]
    even = np.linspace(0, len(values) - 1, MOST_POINTS - WORST_KEPT).astype(np.int64)
    return np.union1d(slowest, even)


def drawn_ranks(samples: int) -> np.ndarray:
    """Ranks to draw a distribution by: all; or the hundred highest and an even choice of the others."""
    if samples <= 1000:
        return np.arange(samples)
    even = np.linspace(0, samples - 1, 900).astype(np.int64)
    return np.union1d(even, np.arange(samples - 100, samples))


def numbers(values: np.ndarray) -> list[float]:
    """Six digits are more than a chart can show, and half the bytes."""
    return [float(f"{value:.6g}") for value in np.asarray(values, dtype=np.float64)]


def log_axis(title: str, values: Sequence[np.ndarray]) -> dict[str, Any]:
    """A logarithmic axis whose ticks are written out: plotly's own write 20 between 10 and 30 as a bare 2."""
    positive = np.concatenate([np.empty(0), *values])
    positive = positive[positive > 0]
    axis: dict[str, Any] = {"title": {"text": title}, "type": "log"}
    if not len(positive):
        return axis
    ticks = _ticks(float(positive.min()), float(positive.max()))
    return {**axis, "tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:.6g}" for tick in ticks]}


def _ticks(low: float, high: float) -> list[float]:
    """Some four to ten round numbers from `low` to `high`, even steps where they are close."""
    if high < 3 * low:
        size = 10.0 ** math.floor(math.log10(max(high - low, 1e-3 * low)))
        step = next((k * size for k in (0.2, 0.5, 1) if (high - low) / (k * size) < 6), 2 * size)
        first, last = math.floor(low / step), math.ceil(high / step)
        return [round(index * step, 12) for index in range(first, last + 1) if index > 0]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = (1, 2, 3, 5, 7) if high < 15 * low else (1, 2, 5) if high < 300 * low else (1,)
    ticks = [mark * 10.0**decade for decade in decades for mark in marks]
    return [float(f"{tick:.6g}") for tick in ticks if low / 1.3 <= tick <= 1.3 * high]


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]
