"""What stands against trusting a measurement, as data: a name for programs, a finding and a remedy for people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .measurement import CandidateResult, Measurement
from .order_statistics import queries_needed

__all__ = ["Check", "run_checks"]

# A first run this many times the later ones will be somebody's missed trigger.
_SLOW_FIRST_RUN = 3.0
# Latency is read to within one step of the clock at either end; fewer steps than this and the step shows.
_CLOCK_STEPS = 100
_DRIFT = 0.03


@dataclass(frozen=True)
class Check:
    """One thing found.

    Attributes:
        name: stable, for programs: `too-few-samples`.
        candidate: to whom it applies; empty for the whole measurement.
        finding: what was seen, in figures.
        remedy: what to do about it.
    """

    name: str
    candidate: str
    finding: str
    remedy: str

    def __str__(self) -> str:
        about = f"{self.candidate}: " if self.candidate else ""
        return f"{about}{self.finding}; {self.remedy}"


def run_checks(measurement: Measurement) -> tuple[Check, ...]:
    """Everything found, in the order of the candidates."""
    found = [*_interrupted(measurement)]
    for result in measurement.results:
        found += _failed(result)
        if len(result.measured):
            for check in (_too_few_samples, _drifted, _timer_too_coarse):
                found += check(result, measurement)
        found += _never_steady(result, measurement)
        found += _slow_first_run(result)
    return tuple(found)


def _interrupted(measurement: Measurement) -> list[Check]:
    if measurement.ended == "complete":
        return []
    return [Check("interrupted", "", "the run was interrupted and is partial", "run it to its end")]


def _failed(result: CandidateResult) -> list[Check]:
    if result.failure is None:
        return []
    kept = f"; {len(result.measured)} queries measured before are kept" if len(result.measured) else ""
    remedy = "see its detail in the JSON report" if result.failure.detail else "run it alone to see why"
    return [Check("failed", result.candidate.name, f"{result.failure.reason}{kept}", remedy)]


def _too_few_samples(result: CandidateResult, measurement: Measurement) -> list[Check]:
    found = []
    for percentile in measurement.settings.percentiles:
        needed = queries_needed(percentile)
        if len(result.measured) < needed:
            finding = f"p{percentile:g} needs {needed} queries and {len(result.measured)} were measured"
            found.append(Check("too-few-samples", result.candidate.name, finding, f"use --iterations {needed} or more"))
    return found


def _drifted(result: CandidateResult, measurement: Measurement) -> list[Check]:
    """Whether the first third of the blocks and the last differ by more than 3 % and by more than they scatter."""
    medians = np.array(list(result.measured.block_medians().values()))
    third = len(medians) // 3
    if third < 3:
        return []
    logs = np.log(medians)
    first, last = logs[:third], logs[-third:]
    change = float(np.median(last) - np.median(first))
    noise = 1.25 * float(np.sqrt(first.var(ddof=1) / third + last.var(ddof=1) / third))
    if abs(change) <= max(_DRIFT, 3 * noise):
        return []
    finding = f"the last blocks took {100 * np.expm1(change):+.1f} % against the first"
    remedy = "let it warm up or cool down: a longer --warmup, a fan, fixed clocks; then measure again"
    return [Check("drift", result.candidate.name, finding, remedy)]


def _timer_too_coarse(result: CandidateResult, measurement: Measurement) -> list[Check]:
    step = int(measurement.machine["clock_resolution_ns"])
    median = float(np.median(result.measured.service_ns))
    if median >= _CLOCK_STEPS * step:
        return []
    finding = f"a query takes {median:.0f} ns and the clock steps by {step} ns"
    return [Check("timer-too-coarse", result.candidate.name, finding, "measure more images per query")]


def _never_steady(result: CandidateResult, measurement: Measurement) -> list[Check]:
    if result.warm_up is None or result.warm_up.steady:
        return []
    finding = f"the warm-up was cut at {measurement.settings.warmup_cap_s:g} s and latencies still moved"
    return [Check("not-steady", result.candidate.name, finding, "allow more with --warmup, or quieten the machine")]


def _slow_first_run(result: CandidateResult) -> list[Check]:
    if result.warm_up is None or not len(result.measured):
        return []
    first, typical = float(result.warm_up.samples.service_ns[0]), float(np.median(result.measured.service_ns))
    if first <= _SLOW_FIRST_RUN * typical:
        return []
    finding = f"the first query took {first / 1e6:.1f} ms, {first / typical:.1f} times a later one"
    return [
        Check("slow-first-run", result.candidate.name, finding, "send a query of your own before the first trigger")
    ]
