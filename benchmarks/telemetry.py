"""Clocks, temperatures, load, memory and power beside a measurement, on the clock of its samples.

A reader that finds nothing to read says so once and is out; a value that cannot be read this time is a gap. Neither
ever stops a measurement.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

__all__ = ["Absence", "Reader", "Reading", "Sampler", "Series", "Telemetry"]


class Reading(NamedTuple):
    """One value at one time. A name ending in `_total` is a counter that only grows."""

    name: str
    unit: str
    value: float


class Reader(Protocol):
    """One source of readings."""

    name: str

    def find(self) -> str | None:
        """Look for what there is to read; None, or in one line why there is nothing."""

    def read(self) -> list[Reading]:
        """All readings now, without those that cannot be had now."""


@dataclass(frozen=True)
class Series:
    """One reading over time.

    Attributes:
        name: `cpu_clock_mean`.
        unit: `MHz`.
        source: name of the reader.
        time_ns: on the clock of the samples, int64 [n].
        value: float64 [n].
    """

    name: str
    unit: str
    source: str
    time_ns: np.ndarray
    value: np.ndarray

    def __post_init__(self) -> None:
        # JSON writes 3.0 as it likes; a series is of floats whatever its values look like.
        object.__setattr__(self, "value", np.asarray(self.value, dtype=np.float64))


@dataclass(frozen=True)
class Absence:
    """A reader that had nothing to read here, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Telemetry:
    """What was read beside a measurement."""

    series: tuple[Series, ...]
    absent: tuple[Absence, ...]

    def find(self, name: str) -> Series | None:
        """The series of that name, if there is one."""
        return next((series for series in self.series if series.name == name), None)


class Sampler:
    """Reads all readers now and again from a thread of its own.

    Args:
        readers: the sources; those with nothing to read are recorded as absent.
        interval_s: between two readings.
    """

    def __init__(self, readers: Sequence[Reader], interval_s: float) -> None:
        self._interval_s = interval_s
        self._readers: list[Reader] = []
        self._absent: list[Absence] = []
        for reader in readers:
            reason = reader.find()
            if reason is None:
                self._readers.append(reader)
            else:
                self._absent.append(Absence(reader.name, reason))
        self._points: dict[tuple[str, str, str], tuple[list[int], list[float]]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Read once, and from then on in the background."""
        self.sample(time.perf_counter_ns())
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def stop(self) -> Telemetry:
        """Read a last time and hand over."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self.sample(time.perf_counter_ns())
        return self.telemetry()

    def sample(self, time_ns: int) -> None:
        """Read everything once."""
        for reader in self._readers:
            for reading in reader.read():
                times, values = self._points.setdefault((reading.name, reading.unit, reader.name), ([], []))
                times.append(time_ns)
                values.append(reading.value)

    def telemetry(self) -> Telemetry:
        """What was read so far."""
        series = [
            Series(name, unit, source, np.array(times, dtype=np.int64), np.array(values, dtype=np.float64))
            for (name, unit, source), (times, values) in self._points.items()
        ]
        return Telemetry(tuple(series), tuple(self._absent))

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.sample(time.perf_counter_ns())
