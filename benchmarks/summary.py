"""What the samples of a measurement say. Everything here can be computed again from the stored samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .checks import Check, query_overhead_ns, run_checks
from .comparison import Comparison, RatioInterval, compare_blocks, ratio_interval
from .conditions import Condition, conditions
from .energy import Energy, energy_absence, energy_of
from .image_effects import ImageEffects, image_effects
from .measurement import CandidateResult, Measurement, Samples
from .modes import Mode, Outliers, find_modes, find_outliers
from .order_statistics import Interval, Percentile, percentile_interval, rate_interval, summarise_percentile
from .pace import Pace, keep_pace

__all__ = ["CandidateSummary", "DeadlineMisses", "Summary", "paired_medians", "summarise"]


@dataclass(frozen=True)
class DeadlineMisses:
    """Queries that took longer than the deadline, and the interval of their rate."""

    deadline_ms: float
    missed: int
    queries: int
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class CandidateSummary:
    """One candidate in figures. Latencies in nanoseconds; None where nothing was measured.

    Attributes:
        name: of the candidate.
        queries: that count.
        images_per_query: of each query.
        median_ns: median latency, always given.
        median_interval: its order-statistic interval.
        mean_ns: mean latency.
        min_ns: the fastest query.
        max_ns: the slowest; no query is ever left out.
        percentiles: as asked for, some of them refused.
        images_per_s: images over measured time.
        deadline: misses, where there is a deadline.
        load_ns: building and entering the runner.
        first_query_ns: the very first query.
        warm_up_ns: how long the warm-up took.
        warm_up_steady: whether the data ended it, and not the cap.
        overhead_ns: median time from the end of a query to the start of the next, which is the harness's own.
        device_median_ns: median device time, where the runner tells it.
        pace: whether paced queries kept pace.
        energy: of a query, by each counter and sensor; empty where there is none, or candidates took turns.
        images: what the images do to latency, where there are real ones.
        modes: levels at which latencies gather.
        outliers: queries far above the rest; they count like any other.
        peak_resident_bytes: the most memory it held.
        worst_case_of: the candidate whose worst case this is.
        failure: one line, or None.
    """

    name: str
    queries: int
    images_per_query: int
    median_ns: float | None
    median_interval: Interval | None
    mean_ns: float | None
    min_ns: int | None
    max_ns: int | None
    percentiles: tuple[Percentile, ...]
    images_per_s: float | None
    deadline: DeadlineMisses | None
    load_ns: int | None
    first_query_ns: int | None
    warm_up_ns: int | None
    warm_up_steady: bool | None
    overhead_ns: float | None
    device_median_ns: float | None
    pace: Pace | None
    energy: tuple[Energy, ...]
    images: ImageEffects | None
    modes: tuple[Mode, ...]
    outliers: Outliers | None
    peak_resident_bytes: int | None
    worst_case_of: str | None
    failure: str | None


@dataclass(frozen=True)
class Summary:
    """A measurement in figures.

    Attributes:
        candidates: in the order given.
        comparisons: of each candidate but the first with the first, where both have blocks of one round.
        pilot: ratio of two processes of the reference, which should be 1; None where no pilot ran.
        conditions: telemetry of the measured time in figures.
        energy_absence: why no candidate has its energy; None if one has.
        checks: what stands against trusting the figures, each with its remedy; empty is good.
    """

    candidates: tuple[CandidateSummary, ...]
    comparisons: tuple[Comparison, ...]
    pilot: RatioInterval | None
    conditions: tuple[Condition, ...]
    energy_absence: str | None
    checks: tuple[Check, ...]


def summarise(measurement: Measurement) -> Summary:
    """Compute the figures of a measurement."""
    pilot = _pilot_ratio(measurement)
    reference = measurement.results[0]
    comparisons = [_compare(result, reference, measurement, pilot) for result in measurement.results[1:]]
    return Summary(
        candidates=tuple(_summarise_candidate(result, measurement) for result in measurement.results),
        comparisons=tuple(comparison for comparison in comparisons if comparison is not None),
        pilot=pilot,
        conditions=conditions(measurement),
        energy_absence=energy_absence(measurement),
        checks=run_checks(measurement),
    )


def _summarise_candidate(result: CandidateResult, measurement: Measurement) -> CandidateSummary:
    settings = measurement.settings
    samples = result.measured
    ordered = np.sort(samples.latency_ns)
    some = len(ordered) > 0
    images = samples.batches.shape[1] * result.batch_size
    warm_up = result.warm_up
    return CandidateSummary(
        name=result.candidate.name,
        queries=len(ordered),
        images_per_query=images,
        median_ns=float(np.median(ordered)) if some else None,
        median_interval=percentile_interval(ordered, 50, settings.confidence) if some else None,
        mean_ns=float(ordered.mean()) if some else None,
        min_ns=int(ordered[0]) if some else None,
        max_ns=int(ordered[-1]) if some else None,
        percentiles=tuple(summarise_percentile(ordered, p, settings.confidence) for p in settings.percentiles),
        images_per_s=images * len(ordered) / (_measured_ns(samples) / 1e9) if some else None,
        deadline=_deadline(ordered, settings.deadline_ms, settings.confidence) if some else None,
        load_ns=None if result.loaded is None else result.loaded.load_ns,
        first_query_ns=None if warm_up is None else int(warm_up.samples.service_ns[0]),
        warm_up_ns=None if warm_up is None else warm_up.duration_ns,
        warm_up_steady=None if warm_up is None else warm_up.steady,
        overhead_ns=query_overhead_ns(samples) if settings.scenario != "paced" else None,
        device_median_ns=None if samples.device_ns is None else float(np.median(samples.device_ns)),
        pace=keep_pace(samples) if settings.scenario == "paced" else None,
        energy=energy_of(result, measurement),
        images=image_effects(result, settings.confidence),
        modes=find_modes(samples.latency_ns),
        outliers=find_outliers(samples, measurement.telemetry),
        peak_resident_bytes=result.peak_resident_bytes,
        worst_case_of=result.candidate.worst_case_of,
        failure=None if result.failure is None else result.failure.reason,
    )


def _measured_ns(samples: Samples) -> int:
    """Time from the first intended start to the last end of each block, over all blocks."""
    starts = np.flatnonzero(np.diff(samples.block, prepend=-1))
    ends = np.append(starts[1:], len(samples)) - 1
    return int((samples.end_ns[ends] - samples.intended_ns[starts]).sum())


def _deadline(ordered: np.ndarray, deadline_ms: float | None, confidence: float) -> DeadlineMisses | None:
    if deadline_ms is None:
        return None
    missed = int((ordered > deadline_ms * 1e6).sum())
    return DeadlineMisses(deadline_ms, missed, len(ordered), rate_interval(missed, len(ordered), confidence))


def paired_medians(first: Samples, second: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Block medians of the rounds that both have, [rounds] each."""
    left, right = first.block_medians(), second.block_medians()
    rounds = sorted(left.keys() & right.keys())
    return np.array([left[r] for r in rounds]), np.array([right[r] for r in rounds])


def _pilot_ratio(measurement: Measurement) -> RatioInterval | None:
    if measurement.pilot is None:
        return None
    second, first = paired_medians(measurement.pilot.second, measurement.pilot.first)
    if len(first) < 2:
        return None
    settings = measurement.settings
    return ratio_interval(second, first, confidence=settings.verdict_confidence, seed=settings.seed)


def _compare(
    result: CandidateResult, reference: CandidateResult, measurement: Measurement, pilot: RatioInterval | None
) -> Comparison | None:
    settings = measurement.settings
    medians, reference_medians = paired_medians(result.measured, reference.measured)
    if len(medians) < 2:
        return None
    return compare_blocks(
        result.candidate.name,
        reference.candidate.name,
        medians,
        reference_medians,
        confidence=settings.confidence,
        verdict_confidence=settings.verdict_confidence,
        floor=1.0 if pilot is None else math.exp(abs(math.log(pilot.ratio))),
        seed=settings.seed,
    )
