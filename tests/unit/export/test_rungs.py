from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.export.rungs import best_rungs, completed, expected_cost, interpolated, smoothed


def by_trying_all(counts: np.ndarray, cost: np.ndarray, most: int) -> float:
    """The least expected cost of any ladder at all, whatever its rungs."""
    tokens = len(cost) - 1
    below = [rungs for n in range(most) for rungs in combinations(range(tokens), n)]
    return min(expected_cost((*rungs, tokens), counts, cost) for rungs in below)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.lists(st.floats(0, 10), min_size=10, max_size=10),
    st.integers(1, 4),
)
@settings(deadline=None, max_examples=150)
def test_no_ladder_of_as_many_rungs_is_cheaper(counts: list[int], steps: list[float], most: int) -> None:
    cost, runs = np.cumsum(steps), np.array(counts)
    rungs = best_rungs(runs, cost, most)
    assert 1 <= len(rungs) <= most
    assert rungs == completed(rungs, 9), "rising, each once, the last one all tokens"
    assert expected_cost(rungs, runs, cost) == pytest.approx(by_trying_all(runs, cost, most))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(2, 4))
@settings(deadline=None)
def test_a_cost_that_does_not_rise_wants_one_rung(counts: list[int], most: int) -> None:
    assert best_rungs(np.array(counts), np.ones(10), most) == (9,)


def test_the_expected_cost_is_that_of_the_smallest_rung_that_holds_each() -> None:
    cost = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    assert expected_cost((0, 2, 4), np.array([0, 1, 2, 3, 4]), cost) == (1 + 4 + 4 + 16 + 16) / 5


@pytest.mark.parametrize("asked", [(4, 1, 1, 0), (0, 1, 4), (16, 4, 1, 0), (4, 0, 1, 16, 16)])
def test_rungs_may_come_in_any_order_and_without_the_last(asked: tuple[int, ...]) -> None:
    assert completed(asked, 16) == (0, 1, 4, 16)


@pytest.mark.parametrize("asked", [(17,), (0, 4, 17), (-1, 16)])
def test_a_rung_out_of_range_is_one_line(asked: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"a budget of (17|-1) for 16 tokens; give 0 to 16"):
        completed(asked, 16)


def test_a_curve_goes_through_its_points_and_never_falls() -> None:
    curve = interpolated([(0, 0.0), (2, 4.0), (4, 3.0), (8, 7.0)], 8)
    assert curve.tolist() == [0, 2, 4, 4, 4, 4, 5, 6, 7]


def test_a_noisy_curve_is_read_as_a_fixed_part_and_work() -> None:
    flops = [0.0, 10.0, 20.0, 40.0, 80.0]
    exact = [(patches, 2.0 + 0.5 * work) for patches, work in zip((0, 1, 2, 4, 8), flops, strict=True)]
    exact[0] = (0, 0.0)
    assert [cost for _, cost in smoothed(exact, flops)] == pytest.approx([cost for _, cost in exact])
    bent = [(patches, cost + noise) for (patches, cost), noise in zip(exact, (0, 3, -3, 3, -3), strict=True)]
    fitted = smoothed(bent, flops)
    costs = [cost for _, cost in fitted]
    assert costs == sorted(costs)
    assert fitted[0] == (0, 0.0)


@pytest.mark.parametrize("costs", [(5.0, 4.0, 3.0), (0.0, 0.0, 0.0), (0.0, 0.0, 90.0)])
def test_a_curve_of_nothing_but_noise_never_falls_below_nothing(costs: tuple[float, ...]) -> None:
    points = [(0, 0.0), *zip((1, 2, 4), costs, strict=True)]
    fitted = [cost for _, cost in smoothed(points, [0.0, 10.0, 20.0, 40.0])]
    assert min(fitted) >= 0
    assert fitted == sorted(fitted)
