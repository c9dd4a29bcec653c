"""Energy of a query, where the machine has a counter of energy or a sensor of power."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .conditions import while_measured
from .measurement import CandidateResult, Measurement
from .telemetry import Series

__all__ = ["Energy", "energy_absence", "energy_of"]

_READERS = ("rapl", "nvml", "jetson-rails")
_TWO_AT_ONCE = "candidates took turns on one counter, which cannot tell them apart; measure one alone for its energy"


@dataclass(frozen=True)
class Energy:
    """What one counter or sensor says of a query. Everything it feeds is in it, and what that draws when idle.

    Two of them may overlap (a board's input and its CPU rail), so they are never added up.

    Attributes:
        series: the telemetry it comes from, `energy package-0_total` or `power VDD_IN`.
        joules_per_query: energy between the first reading of the measured time and the last, over the queries between.
        queries: how many those are.
        span_s: the time between the two.
    """

    series: str
    joules_per_query: float
    queries: int
    span_s: float


def energy_of(result: CandidateResult, measurement: Measurement) -> tuple[Energy, ...]:
    """Energy of a candidate that was measured alone, by every counter and sensor; else none."""
    if any(len(other.measured) for other in measurement.results if other is not result):
        return ()
    found = []
    for name in _readable(measurement):
        series = while_measured(measurement, name)
        if series is None or len(series.value) < 2:
            continue
        start_ns, end_ns = int(series.time_ns[0]), int(series.time_ns[-1])
        queries = sum(
            int(((samples.start_ns >= start_ns) & (samples.end_ns <= end_ns)).sum())
            for samples in (result.lead_in, result.measured)
        )
        if queries:
            found.append(Energy(name, _joules(series) / queries, queries, (end_ns - start_ns) / 1e9))
    return tuple(found)


def energy_absence(measurement: Measurement) -> str | None:
    """Why there is no energy of a query; None if there is."""
    measured = [result for result in measurement.results if len(result.measured)]
    if any(energy_of(result, measurement) for result in measured):
        return None
    if not _readable(measurement):
        looked = [absence.source for absence in measurement.telemetry.absent if absence.source in _READERS]
        return f"neither counter nor power sensor was found ({', '.join(looked)})" if looked else "none was read"
    return _TWO_AT_ONCE if len(measured) > 1 else "too few readings while measuring; use a longer --duration"


def _readable(measurement: Measurement) -> list[str]:
    """Counters of energy, and sensors of power."""
    return [series.name for series in measurement.telemetry.series if series.unit in ("J", "W")]


def _joules(series: Series) -> float:
    if series.unit == "J":
        return float(series.value[-1] - series.value[0])
    return float(np.trapezoid(series.value, series.time_ns / 1e9))
