"""Percentiles of latencies, and what a finite sample allows one to say about them.

Everything rests on one fact: the number of samples below the true percentile is binomial, whatever the
distribution of latencies. So no shape is assumed, no sample is dropped, and where the sample is too small for a
bound there is none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = [
    "Interval",
    "Percentile",
    "early_stopping_estimate",
    "percentile_interval",
    "queries_needed",
    "rate_interval",
    "summarise_percentile",
    "value_at_percentile",
]

# MLPerf's confidence that a percentile is no more than the estimate: p90, p95 and p99 then need 64, 130, 662 queries.
_EARLY_STOPPING_CONFIDENCE = 0.99


@dataclass(frozen=True)
class Interval:
    """A confidence interval; None is a bound that the sample cannot give.

    Attributes:
        confidence: what was asked for.
        coverage: exact probability that such an interval holds the true value. Order statistics are discrete, so it
            is at or above `confidence` unless a bound is missing, and then it is that of the one-sided interval.
    """

    low: float | None
    high: float | None
    confidence: float
    coverage: float


@dataclass(frozen=True)
class Percentile:
    """One percentile of one sample, in the samples' unit.

    Attributes:
        percentile: above 0 and below 100.
        samples: how many there were.
        needed: how many it takes before the percentile is reported.
        value: the sample value, or None: refused, because `samples` is below `needed`.
        interval: order-statistic confidence interval of the true percentile; None when refused.
        upper_estimate: MLPerf's early-stopping estimate, which the true percentile exceeds in at most 1 % of runs.
    """

    percentile: float
    samples: int
    needed: int
    value: float | None
    interval: Interval | None
    upper_estimate: float | None


def value_at_percentile(ordered: np.ndarray, percentile: float) -> float:
    """Nearest-rank percentile: the smallest sample that at least `percentile` % of samples do not exceed.

    Args:
        ordered: samples in ascending order, [n], at least one.
        percentile: above 0 and at most 100.
    """
    # The rounding keeps 0.9 * 10 from becoming rank 10 for the sake of the last bit.
    rank = math.ceil(round(percentile / 100 * len(ordered), 9))
    return ordered[max(rank, 1) - 1].item()  # type: ignore[no-any-return]


def percentile_interval(ordered: np.ndarray, percentile: float, confidence: float = 0.95) -> Interval:
    """Confidence interval of a percentile from two order statistics, the tightest whose either tail is small enough.

    Args:
        ordered: samples in ascending order, [n].
        percentile: above 0 and below 100.
        confidence: that the interval holds the true percentile.
    """
    samples = len(ordered)
    first, pmf = _binomial(samples, percentile / 100)
    at_most = np.cumsum(pmf)  # P(B <= first + i)
    at_least = np.cumsum(pmf[::-1])[::-1]  # P(B >= first + i)
    tail = (1 - confidence) / 2
    # [X(low), X(high)], ranks from 1, misses when B < low or B >= high.
    below = int(np.searchsorted(at_most, tail, side="right"))  # number of counts whose lower tail is small enough
    low_rank = first + below
    small = np.nonzero(at_least <= tail)[0]
    high_rank = first + int(small[0]) if small.size else samples + 1
    missed_low = at_most[below - 1] if below else 0.0
    missed_high = at_least[small[0]] if small.size else 0.0
    return Interval(
        low=ordered[low_rank - 1].item() if low_rank >= 1 else None,
        high=ordered[high_rank - 1].item() if high_rank <= samples else None,
        confidence=confidence,
        coverage=float(1 - missed_low - missed_high),
    )


def queries_needed(percentile: float, confidence: float = _EARLY_STOPPING_CONFIDENCE) -> int:
    """Smallest sample that has an early-stopping estimate of the percentile: 64 for p90, 130 for p95, 662 for p99."""
    p = percentile / 100

    def enough(n: int) -> bool:
        # P(at most one of n queries exceeds the percentile) must be small.
        return p**n + n * (1 - p) * p ** (n - 1) <= 1 - confidence

    high = 2
    while not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def early_stopping_estimate(
    ordered: np.ndarray, percentile: float, confidence: float = _EARLY_STOPPING_CONFIDENCE
) -> float | None:
    """MLPerf loadgen's estimate: a value that the true percentile exceeds with a probability of at most 1 - confidence.

    With t the largest number of queries that may be over while the sample still proves the bound, it is the t-th
    largest sample.

    Args:
        ordered: samples in ascending order, [n].
        percentile: above 0 and below 100.
        confidence: of the bound.

    Returns:
        The estimate, or None where n is below `queries_needed`.
    """
    samples = len(ordered)
    if samples < queries_needed(percentile, confidence):
        return None
    first, pmf = _binomial(samples, 1 - percentile / 100)
    over = first + int(np.searchsorted(np.cumsum(pmf), 1 - confidence, side="right")) - 1
    return ordered[samples - over].item()  # type: ignore[no-any-return]


def summarise_percentile(ordered: np.ndarray, percentile: float, confidence: float = 0.95) -> Percentile:
    """Value, interval and upper estimate of a percentile, or a refusal that says how many samples it takes."""
    needed = queries_needed(percentile)
    if len(ordered) < needed:
        return Percentile(percentile, len(ordered), needed, None, None, None)
    return Percentile(
        percentile,
        len(ordered),
        needed,
        value_at_percentile(ordered, percentile),
        percentile_interval(ordered, percentile, confidence),
        early_stopping_estimate(ordered, percentile),
    )


def rate_interval(events: int, trials: int, confidence: float = 0.95) -> Interval:
    """Exact (Clopper-Pearson) interval of a rate, such as deadline misses among queries.

    Args:
        events: from 0 to `trials`.
        trials: at least 1.
        confidence: that the interval holds the true rate.
    """
    tail = (1 - confidence) / 2

    def solve(too_low: bool) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            rate = (low + high) / 2
            first, pmf = _binomial(trials, rate)
            counts = first + np.arange(len(pmf))
            if too_low:  # the rate at which `events` or more are as unlikely as the tail
                raise_rate = pmf[counts >= events].sum() < tail
            else:  # the rate at which `events` or fewer are
                raise_rate = pmf[counts <= events].sum() > tail
            low, high = (rate, high) if raise_rate else (low, rate)
        return (low + high) / 2

    return Interval(
        low=solve(True) if events > 0 else 0.0,
        high=solve(False) if events < trials else 1.0,
        confidence=confidence,
        coverage=confidence,
    )


def _binomial(trials: int, p: float) -> tuple[int, np.ndarray]:
    """Probabilities of the counts within 12 standard deviations of the mean: the first count, and [k] probabilities.

    What lies beyond is under 1e-30, so cumulative sums are exact for every purpose here, at a cost that grows with
    the root of `trials`.
    """
    mean = trials * p
    reach = 12 * math.sqrt(mean * (1 - p)) + 60
    first, last = max(0, int(mean - reach)), min(trials, int(mean + reach))
    counts = np.arange(first, last, dtype=np.float64)
    log_ratio = np.log((trials - counts) / (counts + 1)) + math.log(p) - math.log1p(-p)  # of neighbours
    log_pmf = np.concatenate(([0.0], np.cumsum(log_ratio)))
    pmf = np.exp(log_pmf - log_pmf.max())
    return first, pmf / pmf.sum()
