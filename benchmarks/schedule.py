"""The order of things: whose block comes when, which images a block runs, when paced queries arrive. All seeded."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .settings import Settings

__all__ = ["ArrivalTimes", "BatchOrder", "balanced_orders", "calls_per_query", "queries_per_block"]

_LONGEST_PACED_BLOCK_S = 10.0


def balanced_orders(candidates: int, seed: int) -> Iterator[list[int]]:
    """The order of the candidates in each round: at random, then the same reversed.

    Over every two rounds each candidate comes before each other once, so that whatever the first of a round suffers
    falls on all alike; and the random order keeps step with no periodic disturbance.
    """
    rng = np.random.default_rng([seed, 1])
    while True:
        order = rng.permutation(candidates).tolist()
        yield order
        yield order[::-1]


class BatchOrder:
    """Which batches the queries of each block run: shuffled anew each time all have been used.

    Candidates of one round get the same block, so that they are compared on the same images.

    Args:
        batches: how many there are.
        calls: batches one query runs.
        seed: of the shuffling.
    """

    def __init__(self, batches: int, calls: int, seed: int) -> None:
        self._batches = batches
        self._calls = calls
        self._rng = np.random.default_rng([seed, 2])
        self._rest = np.empty(0, dtype=np.int64)

    def next_block(self, queries: int) -> np.ndarray:
        """Batch indices of the next block, int64 [queries, calls]."""
        wanted = queries * self._calls
        missing = wanted - len(self._rest)
        passes = max(0, math.ceil(missing / self._batches))
        shuffled = [self._rng.permutation(self._batches) for _ in range(passes)]
        pool = np.concatenate([self._rest, *shuffled])
        self._rest = pool[wanted:]
        return pool[:wanted].reshape(queries, self._calls)


class ArrivalTimes:
    """Intended starts of paced queries, block after block.

    Args:
        settings: of the measurement; its scenario is `paced`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rng = np.random.default_rng([settings.seed, 3])
        self._replayed = 0

    @property
    def mean_gap_ms(self) -> float:
        """Mean time between two arrivals."""
        if self._settings.arrivals == "trigger":
            return float(np.mean(self._settings.trigger_gaps_ms))
        assert self._settings.period_ms is not None
        return self._settings.period_ms

    def next_block(self, queries: int) -> np.ndarray:
        """Intended starts after the start of the next block, ascending int64 nanoseconds, [queries]."""
        if self._settings.arrivals == "fixed":
            gaps_ms = np.full(queries, self.mean_gap_ms)
        elif self._settings.arrivals == "poisson":
            gaps_ms = self._rng.exponential(self.mean_gap_ms, queries)
        else:
            recorded = np.asarray(self._settings.trigger_gaps_ms)
            gaps_ms = recorded[(self._replayed + np.arange(queries)) % len(recorded)]
            self._replayed += queries
        return np.rint(np.cumsum(gaps_ms) * 1e6).astype(np.int64)


def calls_per_query(settings: Settings, batch_size: int) -> int:
    """Graph runs of one query: one, or as many as a multi-stream query's samples fill."""
    return math.ceil(settings.samples_per_query / batch_size) if settings.scenario == "multi-stream" else 1


def queries_per_block(settings: Settings, slowest_query_s: float, candidates: int) -> int:
    """Queries of a block, the same for every candidate: about `block_s` of the slowest one's time.

    A run that is to be short has shorter blocks rather than fewer, since rounds are what a comparison is made of.

    Args:
        settings: of the measurement.
        slowest_query_s: typical time between the starts of two queries, in the slowest candidate.
        candidates: how many are measured.
    """
    block_s = settings.block_s
    if candidates > 1:
        block_s = min(block_s, settings.min_duration_s / settings.min_rounds)
    elif settings.scenario == "paced":
        # Every block starts with an empty queue; alone, nothing calls for short ones but progress and Ctrl-C.
        block_s = max(block_s, min(settings.min_duration_s / 10, _LONGEST_PACED_BLOCK_S))
    queries = max(1, round(block_s / slowest_query_s))
    # A queue needs some arrivals to show what it does.
    return max(queries, 10) if settings.scenario == "paced" else queries
