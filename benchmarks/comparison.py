"""Whether one candidate is faster than another, from blocks measured side by side.

The blocks of one round run within a second of each other, so what disturbs the machine for longer falls out of
their ratio. What disturbs a single block makes an outlying ratio; no block is dropped for that, the estimator
bears it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from edgevit.errors import InputError

__all__ = [
    "Comparison",
    "RatioInterval",
    "Verdict",
    "compare_blocks",
    "pseudomedian",
    "ratio_interval",
    "unpaired_ratio_interval",
]

Verdict = Literal["faster", "slower", "inconclusive"]

_RESAMPLES = 4000
# Rounds beyond this are first averaged in consecutive groups (batch means): neighbours are not independent in a long
# run, and the estimator's cost grows with the square.
_MOST_GROUPS = 80


@dataclass(frozen=True)
class RatioInterval:
    """Estimated ratio of two latencies with its bootstrap interval."""

    ratio: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class Comparison:
    """One candidate against the reference.

    Attributes:
        candidate: its name.
        reference: name of what it is compared with.
        rounds: pairs of blocks the comparison rests on.
        interval: time of the candidate over that of the reference, at `confidence`.
        verdict: of the interval at the verdict's confidence, against the floor.
        verdict_interval: that interval.
        floor: ratio, at least 1, that the A/A pilot showed between two processes of the same candidate. A verdict needs
            a difference beyond it; 1 where no pilot ran.
    """

    candidate: str
    reference: str
    rounds: int
    interval: RatioInterval
    verdict: Verdict
    verdict_interval: RatioInterval
    floor: float


def compare_blocks(
    candidate: str,
    reference: str,
    candidate_medians: np.ndarray,
    reference_medians: np.ndarray,
    *,
    confidence: float = 0.95,
    verdict_confidence: float = 0.99,
    floor: float = 1.0,
    seed: int = 0,
    resamples: int = _RESAMPLES,
) -> Comparison:
    """Compare two candidates by the median latencies of their blocks.

    Args:
        candidate: name of the one in question.
        reference: name of the one it is held against.
        candidate_medians: median latency of each block, [rounds].
        reference_medians: the same of the reference, round for round, [rounds].
        confidence: of the reported interval.
        verdict_confidence: of the interval that the verdict rests on.
        floor: ratio seen between identical candidates, at least 1.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        InputError: the blocks do not pair up, or there are fewer than two pairs.
    """
    estimate, estimates = _bootstrap(candidate_medians, reference_medians, seed, resamples)
    rounds = len(candidate_medians)
    verdict_interval = _interval(estimate, estimates, rounds, verdict_confidence)
    verdict: Verdict = "inconclusive"
    if verdict_interval.high < 1 / floor:
        verdict = "faster"
    elif verdict_interval.low > floor:
        verdict = "slower"
    return Comparison(
        candidate=candidate,
        reference=reference,
        rounds=rounds,
        interval=_interval(estimate, estimates, rounds, confidence),
        verdict=verdict,
        verdict_interval=verdict_interval,
        floor=floor,
    )


def ratio_interval(
    numerator: np.ndarray,
    denominator: np.ndarray,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = _RESAMPLES,
) -> RatioInterval:
    """Ratio of paired block medians with its bootstrap interval.

    Args:
        numerator: median latency of each block, [rounds].
        denominator: those to divide by, [rounds].
        confidence: of the interval.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        InputError: the blocks do not pair up, or there are fewer than two pairs.
    """
    estimate, estimates = _bootstrap(numerator, denominator, seed, resamples)
    return _interval(estimate, estimates, len(numerator), confidence)


def unpaired_ratio_interval(
    numerator: np.ndarray,
    denominator: np.ndarray,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = _RESAMPLES,
) -> RatioInterval:
    """Ratio of the block medians of two runs, which have nothing to pair them by, with its bootstrap interval.

    Args:
        numerator: median latency of each block, [n], at least two.
        denominator: those to divide by, [m], at least two.
        confidence: of the interval.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        InputError: there are fewer than two blocks in either.
    """
    if min(len(numerator), len(denominator)) < 2:
        raise InputError("a comparison needs at least 2 blocks in each run; measure longer")
    rng = np.random.default_rng(seed)
    above, aboves = _resampled(_batch_means(np.log(numerator)), rng, resamples)
    below, belows = _resampled(_batch_means(np.log(denominator)), rng, resamples)
    return _interval(above - below, np.sort(aboves - belows), min(len(numerator), len(denominator)), confidence)


def pseudomedian(samples: np.ndarray) -> np.ndarray:
    """Hodges-Lehmann estimate along the last axis: the median of all pairwise means, [..., n] to [...].

    Nearly as precise as the mean under normal noise (95 %), and as unmoved by a wild block as a median.
    """
    left, right = np.triu_indices(samples.shape[-1])
    means = (samples[..., left] + samples[..., right]) * 0.5
    return np.median(means, axis=-1, overwrite_input=True)  # type: ignore[no-any-return]


def _bootstrap(numerator: np.ndarray, denominator: np.ndarray, seed: int, resamples: int) -> tuple[float, np.ndarray]:
    """The log ratio, and its bootstrap estimates in ascending order, [resamples]."""
    if len(numerator) != len(denominator):
        raise InputError(f"{len(numerator)} blocks cannot be paired with {len(denominator)}; measure both in one run")
    if len(numerator) < 2:
        raise InputError(f"a comparison needs at least 2 rounds of blocks and has {len(numerator)}; measure longer")
    log_ratios = np.log(np.asarray(numerator, dtype=np.float64) / np.asarray(denominator, dtype=np.float64))
    estimate, estimates = _resampled(_batch_means(log_ratios), np.random.default_rng(seed), resamples)
    return estimate, np.sort(estimates)


def _batch_means(values: np.ndarray) -> np.ndarray:
    if len(values) <= _MOST_GROUPS:
        return values
    return np.array([group.mean() for group in np.array_split(values, _MOST_GROUPS)])


def _resampled(values: np.ndarray, rng: np.random.Generator, resamples: int) -> tuple[float, np.ndarray]:
    """The pseudomedian, and those of bootstrap resamples, [resamples]."""
    estimates = np.empty(resamples)
    for start in range(0, resamples, 500):  # in pieces, since a resample's pairwise means are many
        picked = rng.integers(0, len(values), size=(min(500, resamples - start), len(values)))
        estimates[start : start + len(picked)] = pseudomedian(values[picked])
    return float(pseudomedian(values)), estimates


def _interval(estimate: float, estimates: np.ndarray, rounds: int, confidence: float) -> RatioInterval:
    """Percentile interval of the bootstrap, expanded for few rounds.

    The plain percentile interval is too narrow for a small sample: it uses normal quantiles and the variance over n.
    Hesterberg (The American Statistician 69, 2015, "expanded percentile interval") moves its tails outwards by what
    Student's t and the variance over n - 1 ask for.
    """
    groups = min(rounds, _MOST_GROUPS)
    quantile = _student_quantile((1 + confidence) / 2, groups - 1) * math.sqrt(groups / (groups - 1))
    tail = NormalDist().cdf(-quantile)
    low, high = np.quantile(estimates, [tail, 1 - tail])
    return RatioInterval(math.exp(estimate), math.exp(low), math.exp(high), confidence)


def _student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t for a probability above one half, by bisection of its distribution function."""
    low, high = 0.0, 1.0
    while _student_cdf(high, freedom) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_cdf(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def _student_cdf(t: float, freedom: int) -> float:
    """Distribution function of Student's t for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(freedom))
    cosine = math.cos(angle)
    if freedom % 2:
        total, term = 0.0, cosine
        for k in range(1, freedom - 1, 2):
            total += term
            term *= cosine * cosine * (k + 1) / (k + 2)
        central = 2 / math.pi * (angle + math.sin(angle) * total)
    else:
        total, term = 0.0, 1.0
        for k in range(0, freedom - 1, 2):
            total += term
            term *= cosine * cosine * (k + 1) / (k + 2)
        central = math.sin(angle) * total
    return 0.5 + central / 2
