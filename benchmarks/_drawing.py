"""What all charts share: their type, colours, and how many points a phone can bear."""

from __future__ import annotations

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


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]
