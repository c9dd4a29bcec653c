"""What a measurement leaves behind: every sample and everything it depends on. Interpretation is computed from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgevit.spec import TensorSpec

from .candidate import Candidate
from .child import Failure
from .layers import Profile
from .settings import Settings
from .telemetry import Telemetry

__all__ = ["CandidateResult", "Loaded", "Measurement", "Pilot", "Samples", "WarmUp"]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Queries in the order they ran, one row each.

    Attributes:
        block: index of the round (or warm-up window) a query belongs to, int64 [n].
        batches: batches that a query ran, int64 [n, calls]; batch b holds images b B to b B + B - 1, wrapping around.
        intended_ns: when it was meant to start, int64 [n], on the machine's monotonic clock.
        start_ns: when it started.
        end_ns: when its outputs were there.
        device_ns: device time, where the runner tells it; else None.
    """

    block: np.ndarray
    batches: np.ndarray
    intended_ns: np.ndarray
    start_ns: np.ndarray
    end_ns: np.ndarray
    device_ns: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.batches.ndim == 1:  # no rows, as JSON leaves them
            object.__setattr__(self, "batches", self.batches.reshape(-1, 1))

    def __len__(self) -> int:
        return len(self.block)

    @property
    def latency_ns(self) -> np.ndarray:
        """From the intended start to the end, int64 [n]: waiting for a query that ran late counts."""
        latency: np.ndarray = self.end_ns - self.intended_ns
        return latency

    @property
    def service_ns(self) -> np.ndarray:
        """From the actual start to the end, int64 [n]."""
        service: np.ndarray = self.end_ns - self.start_ns
        return service

    def block_medians(self) -> dict[int, float]:
        """Median latency of each block, in nanoseconds."""
        latency = self.latency_ns
        return {int(block): float(np.median(latency[self.block == block])) for block in np.unique(self.block)}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a candidate's process said once its runner was entered."""

    facts: Mapping[str, str | int]
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    libraries: Mapping[str, str]
    cpus: tuple[int, ...] | None
    load_ns: int
    memory_before_load: Mapping[str, int]
    memory_after_load: Mapping[str, int]
    images: int
    batches: int


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """The queries before measuring, and whether the data or the cap ended them."""

    samples: Samples
    steady: bool

    @property
    def duration_ns(self) -> int:
        return int(self.samples.end_ns[-1] - self.samples.start_ns[0])


@dataclass(frozen=True, kw_only=True)
class CandidateResult:
    """Everything measured of one candidate.

    Attributes:
        candidate: what was measured.
        loaded: None if it did not load.
        warm_up: None if it did not get there.
        counts: active patches of each image and recursion step, int64 [images, steps]; None where the graph does not
            tell or there are no images.
        lead_in: queries that opened blocks, kept apart.
        measured: the queries that count.
        resident_bytes: resident memory after each block, int64 [blocks]; empty where the system does not tell.
        peak_resident_bytes: the most it ever held; None where the system does not tell.
        failure: how it ended before its time, or None.
    """

    candidate: Candidate
    loaded: Loaded | None
    warm_up: WarmUp | None
    counts: np.ndarray | None
    lead_in: Samples
    measured: Samples
    resident_bytes: np.ndarray
    peak_resident_bytes: int | None
    failure: Failure | None

    @property
    def batch_size(self) -> int:
        """Images of one graph run; 1 if it did not load."""
        return self.loaded.input.shape[0] if self.loaded is not None else 1


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """The A/A pilot: two processes of one candidate, measured like two candidates.

    Attributes:
        candidate: the reference's name.
        first: samples of its own process.
        second: samples of the second process.
        failure: why the second process ended before its time, or None.
    """

    candidate: str
    first: Samples
    second: Samples
    failure: Failure | None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One run of the harness.

    Attributes:
        settings: as given.
        results: one for each candidate, in the order given; the first is the reference of comparisons.
        orders: for each round, the order in which candidates ran, by index.
        ended: `complete`, or `interrupted` (by the user: what there is, is what was measured till then).
        pilot: the A/A pilot, or None where none ran.
        machine: facts about the machine.
        image_names: names of the images, in the order of the candidates' images files; empty for noise.
        started_at: ISO 8601 in UTC.
        elapsed_s: wall time from start to end.
        profiles: time by layer of each candidate, where it was asked for.
        telemetry: what was read beside it.
        command_line: as the caller gave it, for the record.
    """

    settings: Settings
    results: tuple[CandidateResult, ...]
    orders: tuple[tuple[int, ...], ...]
    ended: Literal["complete", "interrupted"]
    pilot: Pilot | None
    machine: Mapping[str, str | int | float]
    image_names: tuple[str, ...]
    started_at: str
    elapsed_s: float
    profiles: tuple[Profile, ...] = field(default=())
    telemetry: Telemetry = field(default=Telemetry((), ()))
    command_line: tuple[str, ...] = field(default=())
