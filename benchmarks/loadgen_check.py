"""Whether MLPerf's own loadgen sees what the harness sees: the same runner in the same process, in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgevit.errors import CheckFailed, InputError

from ._lane import Lane, Launch
from .candidate import Candidate
from .child import start_process
from .comparison import RatioInterval, ratio_interval
from .order_statistics import value_at_percentile
from .schedule import BatchOrder
from .settings import Settings

__all__ = ["Agreement", "LoadgenCheck", "check_loadgen"]

# Largest difference that counts as the same, where the machine can see as little.
_TOLERANCE = 0.03


@dataclass(frozen=True)
class Agreement:
    """One percentile as both see it.

    Attributes:
        percentile: 50 or 90.
        harness_ns: median over rounds of the harness's percentile.
        loadgen_ns: the same of loadgen's.
        ratio: of the harness's to loadgen's, paired by rounds.
        agrees: the ratio is within 3 % of one, or its interval holds one.
    """

    percentile: float
    harness_ns: float
    loadgen_ns: float
    ratio: RatioInterval
    agrees: bool


@dataclass(frozen=True)
class LoadgenCheck:
    """One candidate under both harnesses."""

    candidate: str
    queries_per_round: int
    rounds: int
    agreements: tuple[Agreement, ...]


def check_loadgen(
    candidates: Sequence[Candidate],
    settings: Settings | None = None,
    *,
    rounds: int = 10,
    progress: Callable[[str, float], None] | None = None,
    launch: Launch = start_process,
) -> tuple[LoadgenCheck, ...]:
    """Run the harness and loadgen single-stream in turn over each candidate.

    Args:
        candidates: each is checked by itself, in a process of its own.
        settings: of the harness; their scenario must be single-stream.
        rounds: blocks of either.
        progress: told the candidate and the share that is done, between blocks.
        launch: starts a candidate's process.

    Raises:
        InputError: another scenario.
        MissingExtra: mlcommons-loadgen is not installed in the candidate's process.
        CheckFailed: a candidate failed.
    """
    settings = settings or Settings()
    settings.validate()
    if settings.scenario != "single-stream":
        raise InputError(f"loadgen is checked in single-stream, not in {settings.scenario}; leave --scenario out")
    return tuple(_check(candidate, settings, rounds, progress, launch) for candidate in candidates)


def _check(
    candidate: Candidate,
    settings: Settings,
    rounds: int,
    progress: Callable[[str, float], None] | None,
    launch: Launch,
) -> LoadgenCheck:
    lane = Lane(candidate, settings, launch)
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    try:
        lane.load()
        lane.warm_up()
        batches = _batches(lane)
        # 64 is the fewest for which loadgen gives a p90.
        queries = max(64, round(settings.min_duration_s / (2 * rounds * lane.typical_query_s)))
        expected_s = queries * lane.typical_query_s
        order = BatchOrder(batches, 1, settings.seed)
        no_lead_in = np.empty((0, 1), dtype=np.int64)
        for block in range(rounds):
            for side in (0, 1) if block % 2 else (1, 0):
                if side == 0:
                    lane.run_block(block, no_lead_in, order.next_block(queries), None, expected_s)
                elif (found := lane.run_loadgen(queries, expected_s, settings.seed + block)) is not None:
                    theirs.append(found)
                _batches(lane)  # raises if it has failed
            samples = lane.measured.samples()
            ordered = np.sort(samples.latency_ns[samples.block == block])
            ours.append((value_at_percentile(ordered, 50), value_at_percentile(ordered, 90)))
            if progress is not None:
                progress(candidate.name, (block + 1) / rounds)
    finally:
        lane.close()
    agreements = [_agreement(p, np.array(ours)[:, i], np.array(theirs)[:, i]) for i, p in enumerate((50.0, 90.0))]
    return LoadgenCheck(candidate.name, queries, rounds, tuple(agreements))


def _batches(lane: Lane) -> int:
    """How many batches a candidate has, if nothing has gone wrong with it.

    Raises:
        InputError: it refused to load or run.
        CheckFailed: it failed.
    """
    if lane.failure is not None:
        kind = InputError if lane.failure.kind == "refused" else CheckFailed
        raise kind(f"{lane.candidate.name}: {lane.failure.reason}")
    assert lane.loaded is not None
    return lane.loaded.batches


def _agreement(percentile: float, ours: np.ndarray, theirs: np.ndarray) -> Agreement:
    ratio = ratio_interval(ours, theirs)
    agrees = abs(ratio.ratio - 1) <= _TOLERANCE or ratio.low <= 1 <= ratio.high
    return Agreement(percentile, float(np.median(ours)), float(np.median(theirs)), ratio, agrees)
