from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevit.benchmarks.order_statistics import (
    early_stopping_estimate,
    percentile_interval,
    queries_needed,
    rate_interval,
    summarise_percentile,
    value_at_percentile,
)


def binomial_at_most(count: int, trials: int, p: float) -> float:
    """P(B <= count), term by term: slow, plain, and independent of the code under test."""
    from math import comb

    return sum(comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(count + 1))


@pytest.mark.parametrize("percentile, needed", [(90, 64), (95, 130), (99, 662), (50, 11), (99.9, 6636)])
def test_the_queries_a_percentile_needs_are_those_of_loadgen(percentile: float, needed: int) -> None:
    assert queries_needed(percentile) == needed


@pytest.mark.parametrize(
    "samples, percentile, value",
    [(10, 50, 5), (10, 90, 9), (10, 91, 10), (10, 10, 1), (10, 1, 1), (11, 50, 6), (1, 99, 1), (1000, 99.9, 999)],
)
def test_a_percentile_is_the_nearest_rank(samples: int, percentile: float, value: int) -> None:
    assert value_at_percentile(np.arange(1, samples + 1), percentile) == value


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=200), st.floats(0.1, 99.9))
def test_a_percentile_has_enough_samples_at_or_below_it_and_is_the_smallest_such(values: list[int], p: float) -> None:
    ordered = np.sort(np.array(values))
    value = value_at_percentile(ordered, p)
    wanted = p / 100 * len(values)
    assert (ordered <= value).sum() >= wanted - 1e-6
    assert (ordered < value).sum() < wanted + 1e-6


@pytest.mark.parametrize("samples", [5, 11, 64, 300])
@pytest.mark.parametrize("percentile", [5, 50, 90, 99])
def test_the_coverage_of_an_interval_is_the_exact_binomial_one(samples: int, percentile: int) -> None:
    interval = percentile_interval(np.arange(1, samples + 1), percentile, 0.95)
    low = 0 if interval.low is None else int(interval.low)
    high = samples + 1 if interval.high is None else int(interval.high)
    p = percentile / 100
    exact = binomial_at_most(high - 1, samples, p) - (binomial_at_most(low - 1, samples, p) if low else 0.0)
    assert interval.coverage == pytest.approx(exact, abs=1e-12)
    assert interval.coverage >= 0.95 - 1e-12


@pytest.mark.parametrize("samples", [20, 64, 300])
@pytest.mark.parametrize("percentile", [10, 50, 90])
def test_an_interval_is_as_tight_as_its_tails_allow(samples: int, percentile: int) -> None:
    interval = percentile_interval(np.arange(1, samples + 1), percentile, 0.95)
    p = percentile / 100
    if interval.low is not None:
        assert binomial_at_most(int(interval.low) - 1, samples, p) <= 0.025
        assert binomial_at_most(int(interval.low), samples, p) > 0.025
    if interval.high is not None:
        assert 1 - binomial_at_most(int(interval.high) - 1, samples, p) <= 0.025 + 1e-12
        assert 1 - binomial_at_most(int(interval.high) - 2, samples, p) > 0.025


def test_a_bound_that_the_sample_cannot_give_is_not_claimed() -> None:
    interval = percentile_interval(np.arange(100), 99)
    assert interval.high is None
    assert interval.low is not None
    assert percentile_interval(np.arange(5), 10).low is None


@settings(deadline=None)
@given(st.integers(64, 900))
def test_the_early_stopping_estimate_proves_its_bound_and_the_next_smaller_does_not(samples: int) -> None:
    estimate = early_stopping_estimate(np.arange(1, samples + 1), 90)
    assert estimate is not None
    over = samples + 1 - int(estimate)  # it is the sample of that rank from the top
    assert binomial_at_most(over, samples, 0.1) <= 0.01 + 1e-12
    assert binomial_at_most(over + 1, samples, 0.1) > 0.01


@pytest.mark.parametrize("percentile, needed", [(90, 64), (95, 130), (99, 662)])
def test_one_query_less_than_needed_has_no_estimate_and_the_needed_number_gives_the_maximum(
    percentile: int, needed: int
) -> None:
    assert early_stopping_estimate(np.arange(needed - 1), percentile) is None
    assert early_stopping_estimate(np.arange(needed), percentile) == needed - 1


def test_a_percentile_without_enough_samples_is_refused_with_the_number_it_needs() -> None:
    refused = summarise_percentile(np.arange(661), 99)
    assert (refused.value, refused.interval, refused.upper_estimate) == (None, None, None)
    assert (refused.samples, refused.needed) == (661, 662)
    granted = summarise_percentile(np.arange(662), 99)
    assert granted.value == 655
    assert granted.upper_estimate == 661


def test_a_million_samples_take_no_longer_than_the_root_of_them() -> None:
    interval = percentile_interval(np.arange(1_000_000), 99.0)
    assert interval.low == pytest.approx(990_000 - 195, abs=3)
    assert interval.high == pytest.approx(990_000 + 195, abs=3)
    assert interval.coverage == pytest.approx(0.95, abs=0.001)


@pytest.mark.parametrize(
    "events, trials, low, high",
    [
        (0, 100, 0.0, 0.036217),
        (3, 100, 0.006230, 0.085176),
        (100, 100, 0.963783, 1.0),
        (50, 100_000, 0.000371, 0.000659),
    ],
)
def test_a_rate_has_its_exact_interval(events: int, trials: int, low: float, high: float) -> None:
    interval = rate_interval(events, trials)
    assert interval.low == pytest.approx(low, abs=1e-6)
    assert interval.high == pytest.approx(high, abs=1e-6)


@pytest.mark.parametrize("percentile", [50, 90, 99])
def test_intervals_cover_as_often_as_their_exact_coverage_says(percentile: int) -> None:
    """1,000 seeded trials of a skewed distribution with two modes; no wall clock."""
    rng = np.random.default_rng(7)
    samples, trials = 700, 1000
    slow = rng.random((trials, samples)) < 0.2
    latencies = np.sort(np.where(slow, 3.0, 1.0) * rng.lognormal(0.0, 0.3, (trials, samples)), axis=1)
    truth = np.quantile(
        np.where(rng.random(2_000_000) < 0.2, 3.0, 1.0) * rng.lognormal(0.0, 0.3, 2_000_000), percentile / 100
    )
    intervals = [percentile_interval(row, percentile) for row in latencies]
    covered = np.mean([i.low is not None and i.high is not None and i.low <= truth < i.high for i in intervals])
    assert covered >= 0.93
    assert abs(covered - intervals[0].coverage) <= 0.015


def test_the_early_stopping_estimate_is_exceeded_in_at_most_one_run_in_a_hundred() -> None:
    rng = np.random.default_rng(11)
    runs = np.sort(rng.exponential(1.0, (4000, 200)), axis=1)
    truth = -np.log(0.1)
    exceeded = np.mean([early_stopping_estimate(run, 90) < truth for run in runs])  # type: ignore[operator]
    assert exceeded <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 4000)
