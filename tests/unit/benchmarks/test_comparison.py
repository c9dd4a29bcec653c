from __future__ import annotations

import numpy as np
import pytest

from edgevit.benchmarks.comparison import compare_blocks, pseudomedian, ratio_interval
from edgevit.errors import InputError

TRIALS = 1000
ROUNDS = 20
BLOCK_NOISE = 0.03


def blocks(rng: np.random.Generator, level: float, rounds: int = ROUNDS) -> np.ndarray:
    return level * np.exp(rng.normal(0.0, BLOCK_NOISE, rounds))


def test_the_pseudomedian_is_the_median_of_all_pairwise_means() -> None:
    # Pairs of 1, 2, 9 with themselves and each other: 1, 1.5, 2, 5, 5.5, 9.
    assert pseudomedian(np.array([9.0, 1.0, 2.0])) == 3.5


def test_exact_blocks_give_the_exact_ratio() -> None:
    interval = ratio_interval(np.full(5, 3.0), np.full(5, 4.0))
    assert (interval.ratio, interval.low, interval.high) == pytest.approx((0.75, 0.75, 0.75))


def test_what_disturbs_both_blocks_of_a_round_falls_out() -> None:
    weather = np.random.default_rng(3).lognormal(0.0, 0.5, 20)
    interval = ratio_interval(2.0 * weather, 1.0 * weather)
    assert (interval.low, interval.high) == pytest.approx((2.0, 2.0))


def test_wild_blocks_move_the_ratio_little_and_are_not_dropped() -> None:
    rng = np.random.default_rng(5)
    reference, candidate = blocks(rng, 1.0), blocks(rng, 1.0)
    calm = ratio_interval(candidate, reference)
    candidate[[3, 11]] *= 4.0
    disturbed = ratio_interval(candidate, reference)
    assert disturbed.ratio == pytest.approx(calm.ratio, rel=0.01)
    assert disturbed.high > calm.high


def test_the_same_blocks_and_seed_give_the_same_interval() -> None:
    rng = np.random.default_rng(1)
    a, b = blocks(rng, 1.0), blocks(rng, 1.0)
    assert ratio_interval(a, b, seed=4) == ratio_interval(a, b, seed=4)
    assert ratio_interval(a, b, seed=4) != ratio_interval(a, b, seed=5)


def test_a_long_run_is_compared_by_batch_means_of_its_rounds() -> None:
    rng = np.random.default_rng(2)
    interval = ratio_interval(blocks(rng, 1.1, 5000), blocks(rng, 1.0, 5000), resamples=500)
    assert interval.low < 1.1 < interval.high
    assert interval.high / interval.low < 1.005


def test_blocks_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(InputError, match="3 blocks cannot be paired with 4"):
        ratio_interval(np.ones(3), np.ones(4))
    with pytest.raises(InputError, match="at least 2 rounds"):
        ratio_interval(np.ones(1), np.ones(1))


def test_a_difference_no_larger_than_the_pilot_saw_between_twins_is_inconclusive() -> None:
    rng = np.random.default_rng(9)
    slow, fast = blocks(rng, 1.05), blocks(rng, 1.0)
    assert compare_blocks("b", "a", slow, fast).verdict == "slower"
    assert compare_blocks("b", "a", fast, slow).verdict == "faster"
    assert compare_blocks("b", "a", slow, fast, floor=1.06).verdict == "inconclusive"
    assert compare_blocks("b", "a", fast, slow, floor=1.06).verdict == "inconclusive"


def test_identical_candidates_are_rarely_told_apart() -> None:
    """False alarms in A/A: 1,000 seeded trials, verdicts at 99 %; no wall clock."""
    alarms = 0
    for trial in range(TRIALS):
        rng = np.random.default_rng([21, trial])
        verdict = compare_blocks("b", "a", blocks(rng, 1.0), blocks(rng, 1.0), resamples=400, seed=trial).verdict
        alarms += verdict != "inconclusive"
    assert alarms / TRIALS <= 0.05
    assert alarms > 0  # a test that never fires would see nothing else either


def test_a_slowdown_of_five_per_cent_is_found() -> None:
    """Power at 20 pairs of blocks with 3 % block noise: 1,000 seeded trials; no wall clock."""
    found = 0
    for trial in range(TRIALS):
        rng = np.random.default_rng([22, trial])
        verdict = compare_blocks("b", "a", blocks(rng, 1.05), blocks(rng, 1.0), resamples=400, seed=trial).verdict
        found += verdict == "slower"
    assert found / TRIALS >= 0.95


def test_ratio_intervals_cover_the_true_ratio() -> None:
    """Coverage of the 95 % interval: 1,000 seeded trials, few rounds; no wall clock."""
    covered = 0
    for trial in range(TRIALS):
        rng = np.random.default_rng([23, trial])
        interval = ratio_interval(blocks(rng, 1.3, 12), blocks(rng, 1.0, 12), seed=trial, resamples=400)
        covered += interval.low <= 1.3 <= interval.high
    assert covered / TRIALS >= 0.93
