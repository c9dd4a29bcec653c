from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.benchmarks._drawing import log_axis


@pytest.mark.parametrize(
    "low, high, ticks",
    [
        (4.8, 53, ["5", "7", "10", "20", "30", "50"]),
        (10, 10.4, ["10", "10.1", "10.2", "10.3", "10.4"]),
        (95, 180, ["80", "100", "120", "140", "160", "180"]),
        (1, 1000, ["1", "10", "100", "1000"]),
        (5, 5, ["5"]),
    ],
)
def test_every_tick_is_written_out(low: float, high: float, ticks: list[str]) -> None:
    assert log_axis("ms", [np.array([low]), np.array([high])])["ticktext"] == ticks


@given(st.floats(1e-6, 1e6), st.floats(1, 1e4))
def test_there_are_enough_ticks_and_not_too_many(low: float, stretch: float) -> None:
    axis = log_axis("ms", [np.array([low, low * stretch])])
    values = axis["tickvals"]
    assert 1 <= len(values) <= 16
    assert values == sorted(set(values)) and values[0] > 0


def test_nothing_above_zero_leaves_the_ticks_to_plotly() -> None:
    for values in ([np.zeros(3)], []):
        assert "tickvals" not in log_axis("ms", values)
