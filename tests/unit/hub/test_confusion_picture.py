from __future__ import annotations

import numpy as np
import pytest

from edgevit.confusion_picture import confusion_picture
from edgevit.metrics import evaluate


def drawn(truth: list[int], predicted: list[int], classes: int) -> np.ndarray:
    probabilities = np.eye(classes)[predicted]
    return np.asarray(
        confusion_picture(evaluate(np.array(truth), probabilities, tuple(f"c{i}" for i in range(classes))))
    )


def is_blue(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 2].astype(int) > pixels[..., 0].astype(int) + 60


def is_red(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0].astype(int) > pixels[..., 2].astype(int) + 60


def test_right_predictions_are_blue_and_wrong_ones_red() -> None:
    right, wrong = drawn([0, 1, 2], [0, 1, 2], 3), drawn([0, 1, 2], [1, 2, 0], 3)
    assert is_blue(right).sum() > 5000
    assert not is_red(right).any()
    assert is_red(wrong).sum() > 5000
    assert not is_blue(wrong).any()


def test_a_row_is_a_true_class() -> None:
    rows, columns = np.nonzero(is_red(drawn([0, 0], [2, 2], 3)))
    assert np.ptp(rows) < 80
    blue_rows, blue_columns = np.nonzero(is_blue(drawn([0, 1, 2], [0, 1, 2], 3)))
    assert abs(rows.min() - blue_rows.min()) <= 2  # in the first row
    assert abs(columns.max() - blue_columns.max()) <= 2  # in the last column


@pytest.mark.parametrize("classes", [1, 2, 7, 40, 120])
def test_any_number_of_classes_can_be_drawn(classes: int) -> None:
    picture = drawn(list(range(classes)), list(range(classes)), classes)
    assert picture.shape[2] == 3
    assert max(picture.shape) < 1700


def test_a_class_without_pictures_is_drawn_without_a_recall() -> None:
    assert drawn([0, 0], [0, 1], 2).shape == drawn([0, 1], [0, 1], 2).shape
