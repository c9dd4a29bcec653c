from __future__ import annotations

import numpy as np
import pytest
from by_hand import result, samples

from edgevit.benchmarks.image_effects import image_effects

IMAGES = 20


def of_images(per_image_ms: np.ndarray, jitter_ms: float, repeats: int = 30, **fields: object) -> object:
    rng = np.random.default_rng(1)
    batches = np.tile(np.arange(len(per_image_ms)), repeats)
    latency = per_image_ms[batches] + jitter_ms * rng.standard_normal(len(batches))
    return image_effects(result(samples(latency, batches=batches), images=len(per_image_ms), **fields), 0.95)  # type: ignore[arg-type]


def test_a_spread_made_by_images_is_told_from_jitter() -> None:
    levels = np.linspace(10, 20, IMAGES)
    by_images, by_jitter = of_images(levels, 0.1), of_images(np.full(IMAGES, 15.0), 3.0)
    assert by_images.image_share > 0.99  # type: ignore[attr-defined]
    assert by_images.image_spread_ns == pytest.approx(9e6, rel=0.02)  # type: ignore[attr-defined]
    assert by_images.jitter_spread_ns == pytest.approx(2 * 1.645 * 0.1e6, rel=0.1)  # type: ignore[attr-defined]
    assert by_jitter.image_share < 0.05  # type: ignore[attr-defined]


def test_a_half_and_half_spread_has_half_its_variance_from_images() -> None:
    rng = np.random.default_rng(2)
    levels = 20 + 2 * rng.standard_normal(400)
    effects = of_images(levels, 2.0)
    assert effects.image_share == pytest.approx(0.5, abs=0.07)  # type: ignore[attr-defined]


def test_before_each_image_ran_twice_nothing_is_said_of_shares_and_jitter() -> None:
    for repeats in (1, 2):
        effects = of_images(np.linspace(1, 2, IMAGES), 0.1, repeats=repeats)
        assert effects.runs_per_image == repeats  # type: ignore[attr-defined]
        assert (effects.image_share is None) == (repeats == 1)  # type: ignore[attr-defined]
        assert (effects.jitter_spread_ns is None) == (repeats == 1)  # type: ignore[attr-defined]
    batches = np.append(np.arange(IMAGES), 0)  # only one ran again: that is no jitter of them all
    once_more = image_effects(result(samples(np.linspace(1, 2, IMAGES + 1), batches=batches), images=IMAGES), 0.95)
    assert once_more is not None and once_more.image_share is None


def test_jitter_is_not_made_small_by_the_few_runs_of_each_image() -> None:
    few, many = (of_images(np.full(2000, 15.0), 1.0, repeats=repeats) for repeats in (2, 20))
    assert few.jitter_spread_ns == pytest.approx(3.29e6, rel=0.05)  # type: ignore[attr-defined]
    assert many.jitter_spread_ns == pytest.approx(3.29e6, rel=0.05)  # type: ignore[attr-defined]


def test_latency_is_grouped_by_recursion_depth_and_correlated_with_active_tokens() -> None:
    counts = [[16, 8, 0], [16, 0, 0], [16, 8, 4], [16, 6, 0], [16, 2, 1], [16, 4, 0]]
    active = np.array(counts).sum(axis=1)
    effects = of_images(active / 10.0, 0.0, counts=counts)
    assert [(group.depth, group.images) for group in effects.by_depth] == [(1, 1), (2, 3), (3, 2)]  # type: ignore[attr-defined]
    assert effects.by_depth[0].median_ns == pytest.approx(1.6e6)  # type: ignore[attr-defined]
    assert effects.by_depth[1].queries == 90  # type: ignore[attr-defined]
    assert effects.active_tokens == active.mean()  # type: ignore[attr-defined]
    assert effects.correlation.value == pytest.approx(1.0)  # type: ignore[attr-defined]
    assert effects.slowest[0] == (2.0, pytest.approx(2.8e6))  # type: ignore[attr-defined]


def test_a_correlation_knows_how_little_it_rests_on() -> None:
    rng = np.random.default_rng(3)
    tokens = rng.integers(1, 100, 12)
    effects = of_images(rng.uniform(1, 2, 12), 0.0, counts=[[int(t)] for t in tokens])
    correlation = effects.correlation  # type: ignore[attr-defined]
    assert correlation.interval.low < correlation.value < correlation.interval.high
    assert correlation.interval.high - correlation.interval.low > 0.5


def test_where_all_images_cost_the_same_there_is_no_correlation() -> None:
    effects = of_images(np.linspace(1, 2, 6), 0.0, counts=[[16, 4]] * 6)
    assert effects.correlation is None  # type: ignore[attr-defined]
    assert effects.active_tokens_range == (20.0, 20.0)  # type: ignore[attr-defined]


def test_a_batch_takes_the_depth_of_its_deepest_image() -> None:
    # Three images in batches of two: the last batch is the third image and the first again.
    measured = samples([1.0, 2.0] * 10, batches=[0, 1] * 10)
    effects = image_effects(result(measured, images=3, batch_size=2, counts=[[4, 0], [4, 2], [4, 0]]), 0.95)
    assert effects is not None
    assert [(group.depth, group.median_ns) for group in effects.by_depth] == [(1, 2e6), (2, 1e6)]


def test_noise_has_no_image_effects() -> None:
    assert image_effects(result(samples([1.0] * 20)), 0.95) is None
