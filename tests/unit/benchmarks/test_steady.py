from __future__ import annotations

import numpy as np
import pytest

from edgevit.benchmarks.steady import is_steady


def test_equal_windows_are_steady_and_fewer_than_eight_never_are() -> None:
    assert is_steady(np.full(8, 5.0))
    assert not is_steady(np.full(7, 5.0))


@pytest.mark.parametrize("step", [0.97, 1.03])
def test_a_slope_is_not_steady(step: float) -> None:
    assert not is_steady(5.0 * step ** np.arange(8))


def test_a_step_down_between_the_halves_is_not_steady_until_it_has_left_the_windows() -> None:
    windows = np.array([5.0] * 8 + [4.0] * 8)
    assert not is_steady(windows[:12])
    assert is_steady(windows)


def test_a_drift_below_two_per_cent_is_of_no_consequence() -> None:
    assert is_steady(np.array([5.0] * 4 + [5.05] * 4))


def test_a_noisy_machine_is_not_warmed_up_for_ever() -> None:
    rng = np.random.default_rng(0)
    steady = [is_steady(np.exp(rng.normal(0.0, 0.1, 8))) for _ in range(300)]
    assert np.mean(steady) > 0.5


def test_only_the_last_eight_windows_count() -> None:
    assert is_steady(np.array([50.0, 20.0, 9.0] + [5.0] * 8))
