"""What stands against trusting a measurement, as data: a name for programs, a finding and a remedy for people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._words import duration
from .conditions import while_measured
from .measurement import CandidateResult, Measurement, Samples
from .order_statistics import queries_needed
from .pace import keep_pace

__all__ = ["Check", "query_overhead_ns", "run_checks"]

# A first run this many times the later ones will be somebody's missed trigger.
_SLOW_FIRST_RUN = 3.0
# Latency is read to within one step of the clock at either end; fewer steps than this and the step shows.
_CLOCK_STEPS = 100
_DRIFT = 0.03
# The harness may cost this share of a query between two queries.
_OVERHEAD = 0.01
# Other work on this share of one CPU shows in the tail.
_BUSY_CPUS = 0.1
_SLOWED_CLOCK = 0.9
# Growth of resident memory in the second half of the blocks, past which a process is said to leak.
_LEAK_SHARE = 0.02
_LEAK_BYTES = 8 << 20


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
            for check in (_too_few_samples, _drifted, _timer_too_coarse, _overhead, _overloaded, _memory_grew):
                found += check(result, measurement)
        found += _never_steady(result, measurement)
        found += _slow_first_run(result)
    return (*found, *_busy(measurement), *_throttled(measurement), *_clock_fell(measurement))


def query_overhead_ns(samples: Samples) -> float | None:
    """Median time from the end of a query to the start of the next of its block; None if no block has two."""
    between = (samples.start_ns[1:] - samples.end_ns[:-1])[np.diff(samples.block) == 0]
    return float(np.median(between)) if len(between) else None


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
    finding = f"the first query took {duration(first)}, {first / typical:.1f} times a later one"
    return [
        Check("slow-first-run", result.candidate.name, finding, "send a query of your own before the first trigger")
    ]


def _overhead(result: CandidateResult, measurement: Measurement) -> list[Check]:
    overhead = query_overhead_ns(result.measured)
    median = float(np.median(result.measured.service_ns))
    if measurement.settings.scenario == "paced" or overhead is None or overhead <= _OVERHEAD * median:
        return []
    finding = f"the harness takes {overhead / 1e3:.1f} us between queries of {median / 1e3:.1f} us"
    remedy = "latency is unharmed, throughput is not; measure more images per query"
    return [Check("overhead-too-large", result.candidate.name, finding, remedy)]


def _overloaded(result: CandidateResult, measurement: Measurement) -> list[Check]:
    pace = keep_pace(result.measured) if measurement.settings.scenario == "paced" else None
    if pace is None or pace.utilisation < 1:
        return []
    finding = (
        f"queries arrive faster than they are served ({pace.utilisation:.2f} of the time between them); the last of a "
        f"block started {pace.behind_at_end_ns / 1e6:.1f} ms late, and a longer block would fall further behind"
    )
    return [Check("overloaded", result.candidate.name, finding, "lengthen the period or use a faster model")]


def _memory_grew(result: CandidateResult, measurement: Measurement) -> list[Check]:
    resident = result.resident_bytes
    if len(resident) < 8:
        return []
    middle, end = int(resident[len(resident) // 2]), int(resident[-1])
    if end - middle <= max(_LEAK_BYTES, _LEAK_SHARE * middle):
        return []
    finding = f"resident memory grew from {middle / 2**20:.0f} to {end / 2**20:.0f} MiB in the second half of the run"
    return [Check("memory-grew", result.candidate.name, finding, "look for a leak with a longer --duration")]


def _busy(measurement: Measurement) -> list[Check]:
    others = while_measured(measurement, "cpu_others")
    if others is None or not len(others.value):
        return []
    cpus = float(others.value.mean()) * float(measurement.machine["cpus"])
    if cpus <= _BUSY_CPUS:
        return []
    finding = f"other work kept {cpus:.2f} of {measurement.machine['cpus']} CPUs busy"
    return [Check("busy-machine", "", finding, "end it, or bind candidates to CPUs of their own")]


def _throttled(measurement: Measurement) -> list[Check]:
    remedy = "cool the device or lower its power mode, and measure again"
    events = while_measured(measurement, "throttle_events_total")
    if events is not None and len(events.value) and events.value[-1] > events.value[0]:
        finding = f"{events.value[-1] - events.value[0]:.0f} throttling events while measuring"
        return [Check("throttled", "", finding, remedy)]
    names = [series.name for series in measurement.telemetry.series if series.unit == "devices"]
    for name in names:
        state = while_measured(measurement, name)
        if state is not None and len(state.value) and state.value.max() > 0:
            share = float((state.value > 0).mean())
            return [Check("throttled", "", f"throttled in {100 * share:.0f} % of the readings ({name})", remedy)]
    return []


def _clock_fell(measurement: Measurement) -> list[Check]:
    """Whether the CPU clock of the last third of the run is below nine tenths of that of the first."""
    clock = while_measured(measurement, "cpu_clock_mean")
    third = 0 if clock is None else len(clock.value) // 3
    if clock is None or third < 3:
        return []
    first, last = float(np.median(clock.value[:third])), float(np.median(clock.value[-third:]))
    if last >= _SLOWED_CLOCK * first:
        return []
    finding = f"the CPU clock fell from {first:.0f} to {last:.0f} MHz"
    return [Check("clock-fell", "", finding, "fix the clock (governor performance, jetson_clocks) or cool the device")]
