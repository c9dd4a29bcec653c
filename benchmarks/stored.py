"""Stored measurements against each other: two devices, or today against a baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

import numpy as np

from edgevit.errors import InputError

from .comparison import RatioInterval, unpaired_ratio_interval
from .facts import machine_facts
from .measurement import CandidateResult, Measurement
from .settings import Settings

__all__ = [
    "Gate",
    "GateVerdict",
    "StoredComparison",
    "check_baseline",
    "compare_stored",
    "differences",
    "judge_baseline",
]

GateVerdict = Literal["pass", "regressed", "inconclusive"]

_Facts = Mapping[str, str | int | float]

# What makes two machines two.
_MACHINE = ("board", "cpu", "cpus", "architecture", "memory_bytes", "jetson_power_mode")
_SETTINGS = ("scenario", "samples_per_query", "arrivals", "period_ms", "trigger_gaps_ms")


@dataclass(frozen=True)
class StoredComparison:
    """One candidate in two measurements; the ratio is of the second's time to the first's."""

    candidate: str
    first_median_ns: float
    second_median_ns: float
    interval: RatioInterval


@dataclass(frozen=True)
class Gate:
    """One candidate against a baseline.

    Attributes:
        candidate: its name.
        interval: time now over time then.
        most: ratio that is still allowed.
        verdict: `pass` (the whole interval is at or below it), `regressed` (all of it is above), or `inconclusive`.
    """

    candidate: str
    interval: RatioInterval
    most: float
    verdict: GateVerdict


def differences(first: Measurement, second: Measurement) -> tuple[str, ...]:
    """What keeps two measurements from being compared like with like, each in a few words; empty is like with like."""
    found = _known_before(first, second.settings, second.machine)
    if _file_names(first) != _file_names(second):
        found.append(f"images: {_input_of(first)} and {_input_of(second)}")
    for before, after in _pairs(first, second):
        if before.loaded is not None and after.loaded is not None:
            then, now = dict(before.loaded.facts), dict(after.loaded.facts)
            found += [
                f"{name} of {after.candidate.name}: {then.get(name, 'unknown')} and {now.get(name, 'unknown')}"
                for name in sorted(then.keys() | now.keys())
                if then.get(name) != now.get(name) and name != "version"  # a new version is what one gates
            ]
    return tuple(found)


def compare_stored(first: Measurement, second: Measurement, confidence: float = 0.95) -> tuple[StoredComparison, ...]:
    """Compare the candidates that two measurements share, by name; of one candidate each, those two.

    The runs are not interleaved, so what differed between them is in the ratio; `differences` says what is known of it.

    Args:
        first: what the ratios divide by.
        second: the other.
        confidence: of the intervals.

    Raises:
        InputError: they share no candidate that was measured in both.
    """
    comparisons = []
    for before, after in _pairs(first, second):
        then = np.array(list(before.measured.block_medians().values()))
        now = np.array(list(after.measured.block_medians().values()))
        if min(len(then), len(now)) >= 2:
            comparisons.append(
                StoredComparison(
                    candidate=_name_of(before, after),
                    first_median_ns=float(np.median(before.measured.latency_ns)),
                    second_median_ns=float(np.median(after.measured.latency_ns)),
                    interval=unpaired_ratio_interval(now, then, confidence=confidence, seed=second.settings.seed),
                )
            )
    if not comparisons:
        names = [", ".join(r.candidate.name for r in m.results if len(r.measured)) or "none" for m in (first, second)]
        raise InputError(f"no candidate was measured in both: {names[0]}; and {names[1]}; name them alike")
    return tuple(comparisons)


def check_baseline(
    baseline: Measurement,
    settings: Settings,
    names: Sequence[str],
    max_slowdown: float,
    *,
    force: bool = False,
    machine: _Facts | None = None,
) -> None:
    """Refuse before measuring what `judge_baseline` would refuse afterwards, as far as that is known.

    Args:
        baseline: the stored measurement.
        settings: of what will be measured.
        names: of the candidates that will be.
        max_slowdown: allowed, as a share.
        force: judge although machine or scenario differ.
        machine: this one's facts; they are read if None.

    Raises:
        InputError: `max_slowdown` makes no sense, the baseline is not like what will be measured, or knows none of it.
    """
    _check_slowdown(max_slowdown)
    _refuse_unlike(_known_before(baseline, settings, machine_facts() if machine is None else machine), force)
    known = [result.candidate.name for result in baseline.results if len(result.measured)]
    if not (set(known) & set(names) or len(baseline.results) == len(names) == 1):
        raise InputError(
            f"the baseline has {', '.join(known) or 'nothing'} and not {', '.join(names)}; name them alike"
        )


def judge_baseline(
    baseline: Measurement, now: Measurement, max_slowdown: float, *, force: bool = False
) -> tuple[Gate, ...]:
    """Whether candidates got slower than a baseline allows.

    Args:
        baseline: the stored measurement.
        now: the one in question.
        max_slowdown: allowed, as a share: 0.05 for five per cent.
        force: compare although machine, scenario or runtime differ.

    Raises:
        InputError: `max_slowdown` makes no sense, they differ and `force` is not set, or share no candidate.
    """
    _check_slowdown(max_slowdown)
    _refuse_unlike(differences(baseline, now), force)
    gates = []
    for comparison in compare_stored(baseline, now, now.settings.verdict_confidence):
        most = 1 + max_slowdown
        verdict: GateVerdict = "inconclusive"
        if comparison.interval.high <= most:
            verdict = "pass"
        elif comparison.interval.low > most:
            verdict = "regressed"
        gates.append(Gate(comparison.candidate, comparison.interval, most, verdict))
    return tuple(gates)


def _file_names(measurement: Measurement) -> list[str]:
    """Without folders, which are other ones on another device."""
    return [PurePath(name).name for name in measurement.image_names]


def _input_of(measurement: Measurement) -> str:
    """What the candidates were given, in words."""
    names = _file_names(measurement)
    return f"{len(names)} from {names[0]} to {names[-1]}" if names else "noise"


def _name_of(before: CandidateResult, after: CandidateResult) -> str:
    """The name of a lone candidate that was called otherwise says so."""
    then, now = before.candidate.name, after.candidate.name
    return now if then == now else f"{now} (then {then})"


def _known_before(first: Measurement, settings: Settings, machine: _Facts) -> list[str]:
    """The differences that need no second measurement."""
    found = [
        f"{name}: {first.machine.get(name, 'unknown')} and {machine.get(name, 'unknown')}"
        for name in _MACHINE
        if first.machine.get(name) != machine.get(name)
    ]
    for name in _SETTINGS:
        before, after = getattr(first.settings, name), getattr(settings, name)
        if before != after:
            found.append(f"{name}: {before} and {after}")
    return found


def _check_slowdown(max_slowdown: float) -> None:
    if not (math.isfinite(max_slowdown) and max_slowdown >= 0):
        raise InputError(f"the slowdown allowed is {max_slowdown:g}; wanted 0 or more, such as 5%")


def _refuse_unlike(found: Sequence[str], force: bool) -> None:
    if found and not force:
        raise InputError(
            f"the baseline is not like this run ({'; '.join(found)}); measure a new one, or compare with --force"
        )


def _pairs(first: Measurement, second: Measurement) -> list[tuple[CandidateResult, CandidateResult]]:
    if len(first.results) == len(second.results) == 1:
        return [(first.results[0], second.results[0])]
    named = {result.candidate.name: result for result in first.results}
    return [(named[r.candidate.name], r) for r in second.results if r.candidate.name in named]
