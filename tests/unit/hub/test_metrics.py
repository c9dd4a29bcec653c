from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.metrics import (
    accuracy,
    agreement,
    auroc,
    balanced_accuracy,
    confusion_matrix,
    evaluate,
    paired_difference_interval,
    recall_per_class,
    wilson_interval,
)

booleans = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def test_a_row_of_the_confusion_matrix_is_a_true_class_and_a_column_a_predicted_one() -> None:
    matrix = confusion_matrix(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 0]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [2, 0, 0]]
    assert accuracy(matrix) == 2 / 5
    assert recall_per_class(matrix).tolist() == [0.5, 1.0, 0.0]
    assert balanced_accuracy(matrix) == 0.5


def test_a_class_without_pictures_has_no_recall_and_does_not_pull_the_mean_down() -> None:
    matrix = confusion_matrix(np.array([0, 0]), np.array([0, 0]), 2)
    assert math.isnan(recall_per_class(matrix)[1])
    assert balanced_accuracy(matrix) == 1.0


@pytest.mark.parametrize("truth, predicted", [([0, 3], [0, 0]), ([0, -1], [0, 0]), ([0.0, 1.0], [0, 1]), ([0], [0, 1])])
def test_labels_that_are_none_are_refused(truth: list[float], predicted: list[float]) -> None:
    with pytest.raises(InputError):
        confusion_matrix(np.array(truth), np.array(predicted), 3)


def test_wilson_interval_matches_the_published_example() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857, table I: 81 of 263 is 0.2553 to 0.3662.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_mirrors(pair: tuple[int, int]) -> None:
    successes, n = pair
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert wilson_interval(n - successes, n) == pytest.approx((1 - high, 1 - low))


@given(booleans)
def test_paired_difference_holds_its_estimate_and_changes_sign_with_the_order(pairs: list[tuple[bool, bool]]) -> None:
    a, b = (np.array(column) for column in zip(*pairs, strict=True))
    forward, backward = paired_difference_interval(a, b), paired_difference_interval(b, a)
    assert forward.difference == pytest.approx(a.mean() - b.mean())
    assert -1 <= forward.low <= forward.difference <= forward.high <= 1
    assert (forward.low, forward.high) == pytest.approx((-backward.high, -backward.low))


def test_paired_difference_covers_the_true_difference_about_as_often_as_it_says() -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    cells = ((True, True), (True, False), (False, True), (False, False))
    covered = 0
    for _ in range(400):
        drawn = [cells[i] for i in generator.choice(4, size=231, p=[0.93, 0.03, 0.02, 0.02])]
        interval = paired_difference_interval(*(np.array(column) for column in zip(*drawn, strict=True)))
        covered += interval.low <= 0.01 <= interval.high
    assert 0.92 <= covered / 400 <= 0.99


def test_pairing_narrows_the_interval_of_models_that_fail_on_the_same_pictures() -> None:
    a = np.arange(200) >= 20
    same, crossed = paired_difference_interval(a, a), paired_difference_interval(a, a[::-1])
    assert same.high - same.low < (crossed.high - crossed.low) / 2


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=30))
def test_auroc_is_the_share_of_pairs_in_order(items: list[tuple[bool, int]]) -> None:
    positive = [score for truth, score in items if truth]
    negative = [score for truth, score in items if not truth]
    truth, score = np.array([t for t, _ in items]), np.array([s for _, s in items], dtype=float)
    if not positive or not negative:
        with pytest.raises(InputError, match="at least one of each"):
            auroc(truth, score)
        return
    wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p, n in itertools.product(positive, negative)]
    assert auroc(truth, score) == pytest.approx(np.mean(wins))


def test_agreement_is_the_share_of_equal_labels() -> None:
    assert agreement(np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4])) == 0.75
    with pytest.raises(InputError, match="no labels"):
        agreement(np.array([]), np.array([]))


def test_an_evaluation_says_what_its_parts_say() -> None:
    truth = np.array([0, 0, 1, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7], [0.45, 0.55]])
    result = evaluate(truth, probabilities, ("good", "bad"))
    assert result.images == 5
    assert result.accuracy == 0.8
    assert result.accuracy_interval == wilson_interval(4, 5)
    assert result.recall == (0.5, 1.0)
    assert result.recall_intervals[1] == wilson_interval(3, 3)
    assert result.support == (2, 3)
    assert result.confusion == ((1, 1), (0, 3))
    assert result.auroc == pytest.approx(5 / 6)
    assert result.to_dict()["confusion"] == [[1, 1], [0, 3]]


def test_auroc_is_left_out_unless_there_are_two_classes_with_pictures() -> None:
    assert evaluate(np.array([0, 1, 2]), np.eye(3), ("a", "b", "c")).auroc is None
    one_sided = evaluate(np.array([0, 0]), np.eye(2), ("a", "b"))
    assert one_sided.auroc is None
    assert one_sided.recall[1] is None


@pytest.mark.parametrize(
    "probabilities, message",
    [(np.ones((2, 3)), "n x 2"), (np.array([[1.0, np.nan]]), "not finite"), (np.ones((0, 2)), "at least 1")],
)
def test_unusable_probabilities_are_refused(probabilities: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(np.zeros(len(probabilities), int), probabilities, ("a", "b"))
