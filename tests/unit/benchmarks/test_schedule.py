from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.benchmarks.schedule import (
    ArrivalTimes,
    BatchOrder,
    balanced_orders,
    calls_per_query,
    queries_per_block,
)
from edgevit.benchmarks.settings import Settings


@given(st.integers(1, 6), st.integers(0, 1000))
def test_over_two_rounds_each_candidate_precedes_each_other_once(candidates: int, seed: int) -> None:
    first, second = islice(balanced_orders(candidates, seed), 2)
    assert sorted(first) == list(range(candidates))
    assert second == first[::-1]


def test_orders_are_random_and_seeded() -> None:
    orders = list(islice(balanced_orders(4, 0), 40))
    assert len({tuple(order) for order in orders}) > 10
    assert orders == list(islice(balanced_orders(4, 0), 40))
    assert orders != list(islice(balanced_orders(4, 1), 40))


@given(st.integers(1, 9), st.integers(1, 4), st.lists(st.integers(1, 7), min_size=1, max_size=8))
def test_every_batch_is_used_before_any_is_used_again(batches: int, calls: int, sizes: list[int]) -> None:
    order = BatchOrder(batches, calls, seed=0)
    used = np.concatenate([order.next_block(size).ravel() for size in sizes])
    for start in range(0, len(used) - batches + 1, batches):
        assert sorted(used[start : start + batches]) == list(range(batches))
    counts = np.bincount(used, minlength=batches)
    assert counts.max() - counts.min() <= 1


def test_candidates_of_one_round_get_the_same_batches() -> None:
    first, second = BatchOrder(50, 1, seed=3), BatchOrder(50, 1, seed=3)
    for size in (7, 60, 1):
        assert first.next_block(size).tolist() == second.next_block(size).tolist()


def test_fixed_arrivals_keep_their_period() -> None:
    arrivals = ArrivalTimes(Settings(scenario="paced", period_ms=2.5))
    assert arrivals.next_block(3).tolist() == [2_500_000, 5_000_000, 7_500_000]
    assert arrivals.next_block(1).tolist() == [2_500_000]


def test_poisson_arrivals_have_the_mean_and_the_spread_of_their_period() -> None:
    arrivals = ArrivalTimes(Settings(scenario="paced", period_ms=4.0, arrivals="poisson", seed=1))
    gaps = np.diff(arrivals.next_block(20_000)) / 1e6
    assert gaps.mean() == pytest.approx(4.0, rel=0.03)
    assert gaps.std() == pytest.approx(4.0, rel=0.03)
    again = ArrivalTimes(Settings(scenario="paced", period_ms=4.0, arrivals="poisson", seed=1))
    assert (
        again.next_block(5).tolist()
        == ArrivalTimes(Settings(scenario="paced", period_ms=4.0, arrivals="poisson", seed=1)).next_block(5).tolist()
    )


def test_recorded_triggers_are_replayed_in_turn_across_blocks() -> None:
    arrivals = ArrivalTimes(Settings(scenario="paced", arrivals="trigger", trigger_gaps_ms=(1.0, 2.0, 4.0)))
    assert arrivals.next_block(2).tolist() == [1_000_000, 3_000_000]
    assert arrivals.next_block(3).tolist() == [4_000_000, 5_000_000, 7_000_000]
    assert arrivals.mean_gap_ms == pytest.approx(7 / 3)


@pytest.mark.parametrize("samples, batch, calls", [(8, 1, 8), (8, 4, 2), (8, 8, 1), (8, 3, 3), (1, 4, 1)])
def test_a_multi_stream_query_runs_as_many_batches_as_its_samples_fill(samples: int, batch: int, calls: int) -> None:
    assert calls_per_query(Settings(scenario="multi-stream", samples_per_query=samples), batch) == calls
    assert calls_per_query(Settings(scenario="offline", samples_per_query=samples), batch) == 1


def test_a_block_lasts_about_as_long_as_asked_in_the_slowest_candidate() -> None:
    settings = Settings(block_s=0.2, min_duration_s=10, min_rounds=20)
    assert queries_per_block(settings, 0.010, candidates=2) == 20
    assert queries_per_block(settings, 3.0, candidates=2) == 1


def test_a_short_comparison_has_shorter_blocks_and_not_fewer() -> None:
    settings = Settings(block_s=0.2, min_duration_s=1, min_rounds=20)
    assert queries_per_block(settings, 0.010, candidates=2) == 5
    assert queries_per_block(settings, 0.010, candidates=1) == 20


def test_alone_paced_queries_run_in_long_blocks_since_each_starts_with_an_empty_queue() -> None:
    settings = Settings(scenario="paced", period_ms=10, min_duration_s=60)
    assert queries_per_block(settings, 0.010, candidates=1) == 600
    assert queries_per_block(settings, 0.010, candidates=2) == 20


def test_not_so_long_that_an_interrupt_waits_for_minutes() -> None:
    settings = Settings(scenario="paced", period_ms=10, min_duration_s=3600)
    assert queries_per_block(settings, 0.01, 1) == 1000


def test_a_paced_block_has_ten_arrivals_at_least() -> None:
    settings = Settings(scenario="paced", period_ms=100, min_duration_s=10, min_rounds=20)
    assert queries_per_block(settings, 0.1, candidates=2) == 10
