"""How much of a latency's spread the images make, and what in them: their active tokens and their recursion depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from .measurement import CandidateResult
from .order_statistics import Interval, percentile_interval

__all__ = ["Correlation", "DepthGroup", "ImageEffects", "image_effects"]


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation with its interval (Fisher's z, with the variance of Fieller and others 1957)."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class DepthGroup:
    """The images whose deepest patch took part in that many steps."""

    depth: int
    images: int
    queries: int
    median_ns: float
    interval: Interval


@dataclass(frozen=True)
class ImageEffects:
    """What the images do to latency. A graph run of several images counts as one image here.

    Attributes:
        images: how many were run.
        image_spread_ns: from the 5th to the 95th percentile of the images' median latencies.
        runs_per_image: mean number of runs of an image. Below two, images and jitter cannot be told apart.
        jitter_spread_ns: the same of each query's difference to its image's median, widened for the runs that the
            median rests on: what a known image leaves open. None where they cannot be told apart.
        image_share: share of the variance that images explain, from 0 to 1 (one-way random effects); None there too.
        active_tokens: mean active patches an image, over all steps; None where the graph does not tell.
        active_tokens_range: the least and the most that an image takes; empty where the graph does not tell.
        correlation: of active patches with the images' median latencies; None if either does not vary.
        by_depth: latency by recursion depth, shallow to deep; empty where the graph does not tell.
        slowest: indices and median latencies of the slowest images, slowest first.
    """

    images: int
    image_spread_ns: float
    runs_per_image: float
    jitter_spread_ns: float | None
    image_share: float | None
    active_tokens: float | None
    active_tokens_range: tuple[float, ...]
    correlation: Correlation | None
    by_depth: tuple[DepthGroup, ...]
    slowest: tuple[tuple[float, ...], ...]


def image_effects(result: CandidateResult, confidence: float) -> ImageEffects | None:
    """The effects of real images on one candidate; None for noise, and where a query is several graph runs.

    Args:
        result: what was measured.
        confidence: of the intervals.
    """
    samples = result.measured
    if result.loaded is None or not result.loaded.images or samples.batches.shape[1] != 1 or not len(samples):
        return None
    which, position = np.unique(samples.batches[:, 0], return_inverse=True)
    latency = samples.service_ns.astype(np.float64)
    medians = np.array([np.median(latency[position == index]) for index in range(len(which))])
    active = depth = None
    if result.counts is not None:
        active, depth = _work_of_batches(result.counts, result.batch_size, which)
    told_apart = len(latency) >= 2 * len(which)
    slowest = np.argsort(-medians, kind="stable")[:5]
    return ImageEffects(
        images=len(which),
        image_spread_ns=_spread(medians),
        runs_per_image=len(latency) / len(which),
        jitter_spread_ns=_jitter_spread(latency - medians[position], position) if told_apart else None,
        image_share=_image_share(latency, position, len(which)) if told_apart else None,
        active_tokens=None if active is None else float(active.mean()),
        active_tokens_range=() if active is None else (float(active.min()), float(active.max())),
        correlation=None if active is None else _spearman(active, medians, confidence),
        by_depth=() if depth is None else _by_depth(depth, position, latency, confidence),
        slowest=tuple((float(which[index]), float(medians[index])) for index in slowest),
    )


def _work_of_batches(counts: np.ndarray, batch_size: int, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Active patches and depth of each batch: mean of the first and largest of the second over its images."""
    members = (which[:, None] * batch_size + np.arange(batch_size)) % len(counts)
    active = counts.sum(axis=1)[members].mean(axis=1)
    depth = (counts > 0).sum(axis=1)[members].max(axis=1)
    return active, depth


def _spread(values: np.ndarray) -> float:
    low, high = np.quantile(values, [0.05, 0.95])
    return float(high - low)


def _jitter_spread(difference: np.ndarray, position: np.ndarray) -> float:
    """Of images run more than once: the single run of one lies on its median by nature."""
    runs = np.bincount(position)[position]
    again = runs > 1
    return _spread(difference[again] * np.sqrt(runs[again] / (runs[again] - 1)))


def _image_share(latency: np.ndarray, position: np.ndarray, groups: int) -> float | None:
    """Intraclass correlation by analysis of variance, for groups of unequal size."""
    sizes = np.bincount(position, minlength=groups)
    total = len(latency)
    if groups < 2 or total <= groups:
        return None
    means = np.bincount(position, weights=latency, minlength=groups) / sizes
    between = float((sizes * (means - latency.mean()) ** 2).sum()) / (groups - 1)
    within = float(((latency - means[position]) ** 2).sum()) / (total - groups)
    typical_size = (total - float((sizes**2).sum()) / total) / (groups - 1)
    of_images = max(0.0, (between - within) / typical_size)  # below zero is an estimate of zero
    return of_images / (of_images + within) if of_images + within > 0 else None


def _spearman(first: np.ndarray, second: np.ndarray, confidence: float) -> Correlation | None:
    if len(first) < 4 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    value = float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(1.06 / (len(first) - 3))
    centre = math.atanh(min(max(value, -1 + 1e-12), 1 - 1e-12))
    interval = Interval(math.tanh(centre - reach), math.tanh(centre + reach), confidence, confidence)
    return Correlation(value, interval)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, position, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    ranks: np.ndarray = (last - (sizes - 1) / 2)[position]
    return ranks


def _by_depth(
    depth: np.ndarray, position: np.ndarray, latency: np.ndarray, confidence: float
) -> tuple[DepthGroup, ...]:
    groups = []
    for steps in np.unique(depth):
        ordered = np.sort(latency[(depth == steps)[position]])
        interval = percentile_interval(ordered, 50, confidence)
        groups.append(
            DepthGroup(int(steps), int((depth == steps).sum()), len(ordered), float(np.median(ordered)), interval)
        )
    return tuple(groups)
