from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgevit.thresholds import EVERYTHING, NOTHING, separating_threshold

values = st.sampled_from([-2.0, -0.5, 0.0, 0.5, 3.0]) | st.floats(-(2.0**20), 2.0**20, width=32)


@given(st.lists(values, min_size=1, max_size=12), st.integers(0, 15))
def test_a_threshold_separates_as_many_as_is_possible(logits: list[float], wanted: int) -> None:
    threshold = separating_threshold(np.array(logits, np.float32), wanted)
    above = sum(value > threshold for value in logits)
    possible = {sum(value >= edge for value in logits) for edge in logits}
    assert above in possible
    assert abs(above - wanted) == min(abs(count - wanted) for count in possible)


def test_a_threshold_lies_halfway_between_what_it_separates() -> None:
    assert separating_threshold(np.array([1.0, 5.0, 2.0]), 1) == 3.5
    assert separating_threshold(np.array([1.0, 5.0, 2.0]), 2) == 1.5


def test_neighbouring_numbers_are_separated_too() -> None:
    upper = np.float32(1)
    lower = np.nextafter(upper, np.float32(0))
    threshold = separating_threshold(np.array([lower, upper]), 1)
    assert not lower > threshold
    assert upper > threshold


def test_to_take_all_of_them_leaves_none_of_any_picture_behind() -> None:
    assert separating_threshold(np.array([1.0, 2.0]), 2) == EVERYTHING == -NOTHING
