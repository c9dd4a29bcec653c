"""How good a classifier is, and how sure that can be said. numpy and the standard library only.

Labels are whole numbers 0..C-1; a confusion matrix is int64, C x C, a row for each true class and a column for each
predicted one. Rates come with intervals, because on a few hundred pictures the interval is the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from edgevit.errors import InputError
from edgevit.strict_json import plain

__all__ = [
    "Evaluation",
    "PairedDifference",
    "accuracy",
    "agreement",
    "auroc",
    "balanced_accuracy",
    "confusion_matrix",
    "evaluate",
    "paired_difference_interval",
    "recall_per_class",
    "wilson_interval",
]


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count pictures by true class (rows) and predicted class (columns): int64, C x C.

    Args:
        truth: true classes, n whole numbers.
        predicted: predicted classes, n whole numbers.
        classes: C.

    Raises:
        InputError: the two differ in length, or hold something other than 0..C-1.
    """
    truth, predicted = _same_length(truth, predicted)
    for name, values in (("truth", truth), ("predicted", predicted)):
        if values.size and (values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= classes):
            raise InputError(f"{name}: got {values.dtype} from {values.min()} to {values.max()}, "
                             f"wanted whole numbers from 0 to {classes - 1}")  # fmt: skip
    pairs = truth.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def accuracy(matrix: np.ndarray) -> float:
    """Share of pictures whose class was predicted, from a C x C confusion matrix; NaN if it is empty."""
    total = int(matrix.sum())
    return int(np.trace(matrix)) / total if total else math.nan


def recall_per_class(matrix: np.ndarray) -> np.ndarray:
    """For each class, the share of its pictures that were found: float64, C; NaN where a class has no picture."""
    support = matrix.sum(axis=1)
    recall = np.full(len(matrix), np.nan)
    np.divide(np.diag(matrix), support, out=recall, where=support > 0)
    return recall


def balanced_accuracy(matrix: np.ndarray) -> float:
    """Mean recall over the classes that have pictures; NaN if none has."""
    recall = recall_per_class(matrix)
    present = recall[~np.isnan(recall)]
    return float(present.mean()) if present.size else math.nan


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Share of entries in which two arrays of labels agree.

    Raises:
        InputError: they differ in length, or are empty.
    """
    a, b = _same_length(a, b)
    if not a.size:
        raise InputError("agreement: got no labels, wanted at least one")
    return float(np.mean(a == b))


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson, J. Am. Stat. Assoc. 22, 1927); 0 to 1 if n is 0.

    Raises:
        InputError: successes is not within 0..n, or confidence not between 0 and 1.
    """
    if not 0 <= successes <= n:
        raise InputError(f"got {successes} successes in {n}, wanted 0 to {n}")
    z = _z(confidence)
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the bounds are exactly 0 and 1; rounding must not move them.
    low = 0.0 if successes == 0 else (centre - spread) / (1 + z * z / n)
    high = 1.0 if successes == n else (centre + spread) / (1 + z * z / n)
    return low, high


@dataclass(frozen=True)
class PairedDifference:
    """Accuracy of A less accuracy of B on the same pictures, with its interval."""

    difference: float
    low: float
    high: float


def paired_difference_interval(
    correct_a: np.ndarray, correct_b: np.ndarray, confidence: float = 0.95
) -> PairedDifference:
    """How far two accuracies on the same pictures differ.

    Newcombe's method 10 (Statistics in Medicine 17, 1998, 2635): the two Wilson intervals, combined with the
    correlation of the pairs, which keeps its coverage for few discordant pairs where the normal interval does not.

    Args:
        correct_a: for each picture whether A was right, n booleans.
        correct_b: the same for B.
        confidence: of the interval.

    Raises:
        InputError: the two differ in length or are empty.
    """
    a, b = (values.astype(bool) for values in _same_length(correct_a, correct_b))
    n = a.size
    if not n:
        raise InputError("paired difference: got no pictures, wanted at least one")
    both, only_a, only_b = int(np.sum(a & b)), int(np.sum(a & ~b)), int(np.sum(~a & b))
    neither = n - both - only_a - only_b
    share_a, share_b = (both + only_a) / n, (both + only_b) / n
    low_a, high_a = wilson_interval(both + only_a, n, confidence)
    low_b, high_b = wilson_interval(both + only_b, n, confidence)

    product: float = both * neither - only_a * only_b
    if product > 0:
        product = max(product - n / 2, 0)  # the method's continuity correction
    margins = (
        math.sqrt(both + only_a) * math.sqrt(only_b + neither) * math.sqrt(both + only_b) * math.sqrt(only_a + neither)
    )
    correlation = product / margins if margins else 0.0

    difference = (only_a - only_b) / n
    below = _joint(share_a - low_a, high_b - share_b, correlation)
    above = _joint(high_a - share_a, share_b - low_b, correlation)
    return PairedDifference(difference, max(difference - below, -1.0), min(difference + above, 1.0))


def auroc(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    Args:
        truth: whether each picture is positive, n booleans.
        score: higher means more positive, n numbers.

    Raises:
        InputError: the two differ in length, a score is NaN, or one of the classes has no picture.
    """
    truth, score = _same_length(truth, score)
    positive = truth.astype(bool)
    positives = int(positive.sum())
    negatives = positive.size - positives
    if not positives or not negatives:
        raise InputError(
            f"auroc: got {positives} positive and {negatives} negative pictures, wanted at least one of each"
        )
    if np.isnan(score).any():
        raise InputError("auroc: a score is NaN, wanted numbers")
    _, group, size = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(size) - (size - 1) / 2  # of the tied scores of each group, counted from 1
    rank_sum = float(mean_rank[group][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a classifier did on a labelled set.

    Attributes:
        labels: class names, C.
        images: pictures evaluated, n.
        accuracy: share of pictures classified rightly.
        accuracy_interval: its Wilson interval.
        balanced_accuracy: mean recall over the classes that have pictures.
        recall: of each class; None where it has no picture.
        recall_intervals: their Wilson intervals.
        support: pictures of each class.
        confusion: C x C counts, a row for each true class.
        auroc: with two classes, the area under the ROC curve of the second; None otherwise.
        confidence: of every interval.
    """

    labels: tuple[str, ...]
    images: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    recall: tuple[float | None, ...]
    recall_intervals: tuple[tuple[float, float], ...]
    support: tuple[int, ...]
    confusion: tuple[tuple[int, ...], ...]
    auroc: float | None
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        return dict(plain(self))


def evaluate(
    truth: np.ndarray, probabilities: np.ndarray, labels: tuple[str, ...], confidence: float = 0.95
) -> Evaluation:
    """Judge probabilities against the truth.

    Args:
        truth: true classes, n whole numbers.
        probabilities: n x C; the highest is the prediction, of equal ones the first.
        labels: class names, C.
        confidence: of the intervals.

    Raises:
        InputError: no picture, another number of columns than labels, or a value that is not finite.
    """
    truth, probabilities = np.asarray(truth), np.asarray(probabilities)
    classes = len(labels)
    if probabilities.ndim != 2 or probabilities.shape[1] != classes or not len(probabilities):
        shape = " x ".join(map(str, probabilities.shape))
        raise InputError(
            f"evaluate: got probabilities of shape {shape}, wanted n x {classes}, one column a label, n at least 1"
        )
    if not np.isfinite(probabilities).all():
        raise InputError("evaluate: a probability is not finite; the model's outputs are unusable")
    matrix = confusion_matrix(truth, probabilities.argmax(axis=1), classes)
    found, support = np.diag(matrix).tolist(), matrix.sum(axis=1).tolist()
    images = len(probabilities)
    two_classes = classes == 2 and min(support) > 0
    return Evaluation(
        labels=tuple(labels),
        images=images,
        accuracy=accuracy(matrix),
        accuracy_interval=wilson_interval(sum(found), images, confidence),
        balanced_accuracy=balanced_accuracy(matrix),
        recall=tuple(f / s if s else None for f, s in zip(found, support, strict=True)),
        recall_intervals=tuple(wilson_interval(f, s, confidence) for f, s in zip(found, support, strict=True)),
        support=tuple(support),
        confusion=tuple(tuple(row) for row in matrix.tolist()),
        auroc=auroc(truth == 1, probabilities[:, 1]) if two_classes else None,
        confidence=confidence,
    )


def _same_length(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim != 1 or a.shape != b.shape:
        raise InputError(f"got arrays of shapes {a.shape} and {b.shape}, wanted two of one length")
    return a, b


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InputError(f"got confidence {confidence}, wanted between 0 and 1, as 0.95")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _joint(a: float, b: float, correlation: float) -> float:
    """Length of the joint deviation of two correlated ones."""
    return math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))
