"""Under which conditions was measured: telemetry of the time between the first measured query and the last."""

from __future__ import annotations

from dataclasses import dataclass

from .measurement import Measurement
from .telemetry import Series

__all__ = ["Condition", "conditions", "while_measured"]


@dataclass(frozen=True)
class Condition:
    """One series of telemetry in figures.

    Attributes:
        name: of the series.
        unit: of the figures.
        low: the least reading; None for a counter.
        mean: of the readings; None for a counter.
        high: the greatest reading; None for a counter.
        increase: by how much a counter (`..._total`) grew; None for others.
    """

    name: str
    unit: str
    low: float | None
    mean: float | None
    high: float | None
    increase: float | None


def conditions(measurement: Measurement) -> tuple[Condition, ...]:
    """Every series that has readings of that time."""
    found = []
    for whole in measurement.telemetry.series:
        series = while_measured(measurement, whole.name)
        if series is None or not len(series.value):
            continue
        values = series.value
        if series.name.endswith("_total"):
            found.append(Condition(series.name, series.unit, None, None, None, float(values[-1] - values[0])))
        else:
            low, mean, high = float(values.min()), float(values.mean()), float(values.max())
            found.append(Condition(series.name, series.unit, low, mean, high, None))
    return tuple(found)


def while_measured(measurement: Measurement, name: str) -> Series | None:
    """A series cut to that time; None if there is no such series or nothing was measured."""
    series = measurement.telemetry.find(name)
    measured = [result.measured for result in measurement.results if len(result.measured)]
    if series is None or not measured:
        return None
    start = min(int(samples.start_ns[0]) for samples in measured)
    end = max(int(samples.end_ns[-1]) for samples in measured)
    inside = (series.time_ns >= start) & (series.time_ns <= end)
    return Series(series.name, series.unit, series.source, series.time_ns[inside], series.value[inside])
