"""Whether latencies gather at several levels, and when the outlying ones fell: what a single number would hide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .measurement import Samples
from .telemetry import Telemetry

__all__ = ["Mode", "Outliers", "find_modes", "find_outliers"]

_GRID = 512
# A valley must go down to half of the lower hill, or two neighbouring bumps of noise would be two modes.
_VALLEY = 0.5
_LEAST_SHARE = 0.05
# Levels closer than about half a per cent are one to any user.
_LEAST_WIDTH = 0.002
_FAR = 5.0


@dataclass(frozen=True)
class Mode:
    """A level at which latencies gather, and the share of queries around it."""

    latency_ns: float
    share: float


@dataclass(frozen=True)
class Outliers:
    """Queries far above the rest; they are counted here and stay in every figure.

    Attributes:
        above_ns: the median plus five times what the 90th percentile exceeds it by.
        queries: how many are longer.
        causes: how many fell into a stretch of telemetry that shows a cause: `throttled`, `other load`,
            `page faults`; one query may have several.
    """

    above_ns: float
    queries: int
    causes: tuple[tuple[str, int], ...]


def find_modes(latency_ns: np.ndarray) -> tuple[Mode, ...]:
    """Levels of latency, from fast to slow: hills of a kernel density of its logarithm, parted by real valleys.

    Args:
        latency_ns: [n]; under 50 samples show nothing.
    """
    if len(latency_ns) < 50:
        return ()
    logs = np.log(np.maximum(latency_ns, 1).astype(np.float64))
    low, high = np.quantile(logs, [0.25, 0.75])
    scale = min(float(logs.std()), float(high - low) / 1.34) or float(logs.std())
    # Silverman's rule, with the spread of the bulk.
    width = max(0.9 * scale * len(logs) ** -0.2, _LEAST_WIDTH)
    # Wider than the kernel at both ends; and outliers far away stretch the grid, not its cells.
    start, end = float(logs.min()) - 5 * width, float(logs.max()) + 5 * width
    cells = min(1 << 16, max(_GRID, int((end - start) / (width / 4))))
    histogram, edges = np.histogram(logs, bins=cells, range=(start, end))
    step = edges[1] - edges[0]
    reach = int(np.ceil(4 * width / step))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / width) ** 2)
    density = np.convolve(histogram, kernel, mode="same")
    centres = (edges[:-1] + edges[1:]) / 2
    modes = []
    for first, last in _hills(density):
        share = float(histogram[first:last].sum()) / len(logs)
        if share >= _LEAST_SHARE:
            modes.append(Mode(float(np.exp(centres[first + int(np.argmax(density[first:last]))])), share))
    return tuple(modes)


def _hills(density: np.ndarray) -> list[tuple[int, int]]:
    """Spans of the density, each around one peak, parted at valleys of half the lower peak's height or less."""
    hills: list[tuple[int, int]] = []
    start, peak, valley, valley_at = 0, 0.0, np.inf, 0
    for index, height in enumerate(density):
        if height < valley:
            valley, valley_at = float(height), index
        if height > peak and valley > _VALLEY * peak:
            peak, valley = float(height), float(height)
        elif valley <= _VALLEY * min(peak, float(height)) and height > 0:
            hills.append((start, valley_at))
            start, peak, valley = valley_at, float(height), float(height)
    hills.append((start, len(density)))
    return hills


def find_outliers(samples: Samples, telemetry: Telemetry) -> Outliers | None:
    """Queries far above the rest with the causes that telemetry shows at their time; None for too few samples."""
    latency = samples.latency_ns
    if len(latency) < 50:
        return None
    median, high = np.quantile(latency, [0.5, 0.9])
    above = float(median + _FAR * (high - median))
    far = latency > above
    spans = {
        "throttled": _spans_where(telemetry, "throttle_events_total", rising=True)
        + _spans_where(telemetry, "throttled", above=0.0)
        + [span for index in range(16) for span in _spans_where(telemetry, f"gpu_throttled {index}", above=0.0)],
        "other load": _spans_where(telemetry, "cpu_others", above=0.1),
        "page faults": [
            span
            for series in telemetry.series
            if series.name.startswith("major_faults ")
            for span in _spans_where(telemetry, series.name, rising=True)
        ],
    }
    causes = []
    for cause, stretches in spans.items():
        hit = np.zeros(len(latency), dtype=bool)
        for start, end in stretches:
            hit |= (samples.end_ns >= start) & (samples.intended_ns <= end)
        if (count := int((far & hit).sum())) > 0:
            causes.append((cause, count))
    return Outliers(above, int(far.sum()), tuple(causes))


def _spans_where(
    telemetry: Telemetry, name: str, *, above: float | None = None, rising: bool = False
) -> list[tuple[int, int]]:
    """Stretches between two readings at whose end a series is above a value, or has grown."""
    series = telemetry.find(name)
    if series is None or len(series.value) < 2:
        return []
    shown = np.diff(series.value) > 0 if rising else series.value[1:] > (above or 0.0)
    return [(int(series.time_ns[i]), int(series.time_ns[i + 1])) for i in np.flatnonzero(shown)]
