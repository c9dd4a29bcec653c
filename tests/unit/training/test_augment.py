from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgevit.errors import InputError
from edgevit.training.augment import Augmentation

OFF = Augmentation(flip=False, shift_share=0.0, brightness=0.0, contrast=0.0, noise=0.0)
IMAGES = torch.randn(3, 3, 6, 8, generator=torch.Generator().manual_seed(0))


def augmented(change: Augmentation, images: Tensor = IMAGES, seed: int = 0) -> Tensor:
    return change(images, torch.Generator().manual_seed(seed))


def test_nothing_on_is_nothing_changed() -> None:
    torch.testing.assert_close(augmented(OFF), IMAGES, atol=1e-6, rtol=1e-6)


def test_the_same_generator_gives_the_same_pictures_and_leaves_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    assert torch.equal(augmented(Augmentation(), seed=1), augmented(Augmentation(), seed=1))
    assert not torch.equal(augmented(Augmentation(), seed=1), augmented(Augmentation(), seed=2))
    assert torch.equal(torch.get_rng_state(), state)


@given(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7), st.floats(0, 0.99), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_pictures_keep_their_shape_and_stay_finite(
    batch: int, height: int, width: int, share: float, seed: int
) -> None:
    images = torch.randn(batch, 3, height, width)
    before = images.clone()
    after = augmented(Augmentation(shift_share=share), images, seed)
    assert after.shape == images.shape
    assert bool(torch.isfinite(after).all())
    assert torch.equal(images, before), "the batch itself is left as it was"


def test_a_flip_mirrors_both_ways_and_each_picture_on_its_own() -> None:
    images = IMAGES[:1].expand(64, -1, -1, -1)
    after = augmented(Augmentation(flip=True, shift_share=0.0, brightness=0.0, contrast=0.0, noise=0.0), images)
    views = [IMAGES[0].flip(axes) for axes in ([], [1], [2], [1, 2])]
    seen = [next(i for i, view in enumerate(views) if torch.allclose(one, view, atol=1e-5)) for one in after]
    assert set(seen) == {0, 1, 2, 3}


def test_a_shift_moves_by_at_most_its_share_and_mirrors_the_border() -> None:
    # A ramp along the columns: after a shift every row still is a ramp, but for the mirrored border.
    images = torch.arange(10.0).expand(200, 3, 4, 10).clone()
    after = augmented(Augmentation(flip=False, shift_share=0.3, brightness=0.0, contrast=0.0, noise=0.0), images)
    padded = [3, 2, 1, *range(10), 8, 7, 6]  # 3 columns of reflection on both sides
    windows = [padded[left : left + 10] for left in range(7)]
    rows = [[round(value) for value in one[0, 0].tolist()] for one in after]
    assert all(row in windows for row in rows)
    assert {windows.index(row) for row in rows} == set(range(7))


@pytest.mark.parametrize(
    "change, spread",
    [({"brightness": 0.5}, 0.5), ({"noise": 0.4}, 0.4 / 3**0.5), ({"contrast": 0.1}, 0.1)],
)
def test_the_strength_is_what_was_asked_for(change: dict[str, float], spread: float) -> None:
    # Half of each picture is 1 and half -1, so that its mean is 0 and a gain of 1 + x adds x in absolute value.
    images = torch.tensor([1.0, -1.0]).repeat(3 * 8).reshape(1, 3, 4, 4).expand(4000, -1, -1, -1)
    settings_off: dict[str, Any] = {"flip": False, "shift_share": 0.0, "brightness": 0.0, "contrast": 0.0, "noise": 0.0}
    added = augmented(Augmentation(**{**settings_off, **change}), images) - images
    assert float(added.square().mean().sqrt()) == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize(
    "change, line",
    [
        ({"shift_share": 1.0}, "shift_share is 1.0; give 0 or more and below 1, such as 0.1"),
        ({"shift_share": -0.1}, "shift_share is -0.1; give 0 or more and below 1, such as 0.1"),
        ({"brightness": -1.0}, "brightness is -1.0; give 0 or more"),
        ({"contrast": float("inf")}, "contrast is inf; give 0 or more"),
        ({"noise": float("nan")}, "noise is nan; give 0 or more"),
    ],
)
def test_an_augmentation_out_of_range_is_refused(change: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refusal:
        Augmentation(**change)
    assert str(refusal.value) == line
