"""Measurements put together by hand, for what interprets them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgevit.benchmarks import Candidate, CandidateResult, Measurement, Samples, Settings
from edgevit.benchmarks.measurement import Loaded, WarmUp
from edgevit.benchmarks.telemetry import Series, Telemetry
from edgevit.spec import TensorSpec

MS = 1_000_000


def samples(
    latency_ms: list[float] | np.ndarray,
    *,
    block_size: int = 10,
    batches: list[int] | np.ndarray | None = None,
    gap_ns: int = 1000,
    late_ms: list[float] | None = None,
) -> Samples:
    """Queries one after another, `gap_ns` apart; `late_ms` moves their intended starts back."""
    service = np.rint(np.asarray(latency_ms, dtype=np.float64) * MS).astype(np.int64)
    start = np.cumsum(np.concatenate([[0], service[:-1] + gap_ns]))
    late = np.zeros(len(service)) if late_ms is None else np.asarray(late_ms)
    which = np.zeros(len(service), dtype=np.int64) if batches is None else np.asarray(batches, dtype=np.int64)
    return Samples(
        block=np.arange(len(service)) // block_size,
        batches=which[:, None],
        intended_ns=start - np.rint(late * MS).astype(np.int64),
        start_ns=start,
        end_ns=start + service,
    )


def result(
    measured: Samples,
    *,
    name: str = "a",
    images: int = 0,
    counts: list[list[int]] | None = None,
    batch_size: int = 1,
    first_ms: float = 1.0,
    steady: bool = True,
    resident_bytes: list[int] | None = None,
) -> CandidateResult:
    """One candidate that was measured without trouble."""
    shape = (batch_size, 3, 2, 2)
    return CandidateResult(
        candidate=Candidate(name=name, factory="scripted:make", images=Path("images.npy") if images else None),
        loaded=Loaded(
            facts={"runtime": "scripted", "version": "1", "threads": 1},
            input=TensorSpec("image", "float32", shape),
            outputs=(TensorSpec("logits", "float32", (batch_size, 2)),),
            libraries={"python": "3", "numpy": "2"},
            cpus=(0, 1),
            load_ns=5 * MS,
            memory_before_load={},
            memory_after_load={},
            images=images,
            batches=max(images // batch_size, 1),
        ),
        warm_up=WarmUp(samples=samples([first_ms, 1.0, 1.0]), steady=steady),
        counts=None if counts is None else np.array(counts, dtype=np.int64),
        lead_in=samples([]),
        measured=measured,
        resident_bytes=np.array(resident_bytes or [], dtype=np.int64),
        peak_resident_bytes=None,
        failure=None,
    )


def series(name: str, unit: str, time_ms: list[float], value: list[float]) -> Series:
    """A series by hand."""
    return Series(name, unit, "hand", np.array(time_ms) * MS, np.array(value))


def measurement(
    *results: CandidateResult, settings: Settings | None = None, telemetry: tuple[Series, ...] = ()
) -> Measurement:
    """A measurement of results by hand, on a machine of two CPUs with a clock of 50 ns steps."""
    return Measurement(
        settings=settings or Settings(percentiles=(50.0, 90.0)),
        results=results,
        orders=(),
        ended="complete",
        pilot=None,
        machine={"cpus": 2, "clock_resolution_ns": 50, "architecture": "x86_64", "cpu": "hand-made"},
        image_names=(),
        started_at="2026-01-01T00:00:00+00:00",
        elapsed_s=1.0,
        telemetry=Telemetry(telemetry, ()),
    )
