"""The histogram of fixed size: against sorting all the numbers, and against slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.export.histogram import BINS, Histogram

arrays = st.lists(
    st.lists(st.floats(-(2.0**40), 2.0**40, width=32), max_size=40).map(lambda numbers: np.array(numbers, np.float32)),
    max_size=6,
)


def histogram_of(*chunks: np.ndarray) -> Histogram:
    histogram = Histogram()
    for chunk in chunks:
        histogram.add(chunk)
    return histogram


@given(arrays, st.randoms())
def test_neither_order_nor_division_into_batches_matters(chunks: list[np.ndarray], random: object) -> None:
    shuffled = list(chunks)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    together = np.concatenate([np.empty(0, np.float32), *chunks])
    first, second, third = histogram_of(*chunks), histogram_of(*shuffled), histogram_of(together)
    assert np.array_equal(first.counts, second.counts)
    assert np.array_equal(first.counts, third.counts)
    assert first.exponent == second.exponent == third.exponent


@given(arrays)
def test_every_number_is_counted_in_the_bin_that_holds_it(chunks: list[np.ndarray]) -> None:
    histogram = histogram_of(*chunks)
    expected = [0] * BINS
    for number in np.concatenate([np.empty(0, np.float32), *chunks]).tolist():
        expected[math.floor(abs(number) / histogram.width)] += 1
    assert histogram.counts.tolist() == expected


@given(arrays.filter(lambda chunks: any(np.any(chunk) for chunk in chunks)), st.floats(0.5, 100))
def test_a_percentile_is_that_of_the_sorted_numbers_to_one_bin(chunks: list[np.ndarray], percent: float) -> None:
    histogram = histogram_of(*chunks)
    magnitudes = np.sort(np.abs(np.concatenate(chunks)))
    exact = magnitudes[max(math.ceil(percent / 100 * len(magnitudes) - 1e-9) - 1, 0)]
    assert exact < histogram.percentile(percent) <= exact + histogram.width
    assert histogram.width <= max(2 * magnitudes[-1], 2.0**-100) / BINS, "half of the bins at least are of use"


def test_numbers_that_are_not_finite_are_left_out() -> None:
    histogram = histogram_of(np.array([1.0, np.inf, -np.inf, np.nan], np.float32))
    assert histogram.counts.sum() == 1


def test_of_nothing_every_clip_is_zero() -> None:
    histogram = Histogram()
    assert (histogram.percentile(99.0), histogram.entropy(), histogram.least_error()) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("percent", [0.0, -1.0, 100.1, math.nan])
def test_a_percentile_that_is_none_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="got percentile"):
        histogram_of(np.ones(3, np.float32)).percentile(percent)


def test_the_clip_of_least_error_is_the_best_of_all_when_tried_on_the_numbers() -> None:
    numbers = np.append(np.random.default_rng(1).standard_normal(500_000), 20.0).astype(np.float32)
    histogram = histogram_of(numbers)

    def error(clip: float) -> float:
        scale = clip / 127
        return float(np.mean((np.clip(np.round(numbers / scale), -127, 127) * scale - numbers) ** 2))

    largest = float(np.abs(numbers).max())
    best = min(error(clip) for clip in np.linspace(0.02 * largest, largest, 100))
    assert error(histogram.least_error()) <= 1.02 * best
    assert error(histogram.least_error()) < 0.5 * error(largest), "a lonely outlier is worth clipping"


def test_entropy_cuts_a_lonely_outlier_and_keeps_an_even_spread() -> None:
    even = np.linspace(0, 1, 200_000, dtype=np.float32)
    assert histogram_of(even).entropy() > 0.95
    bell = np.random.default_rng(2).standard_normal(200_000).astype(np.float32)
    assert histogram_of(bell, np.array([60.0], np.float32)).entropy() < 15.0
