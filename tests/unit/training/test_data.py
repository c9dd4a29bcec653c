from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgevit.errors import InputError
from edgevit.image_folder import ImageFolder
from edgevit.preprocess import Preprocess
from edgevit.samples import surface
from edgevit.training.data import normalisation, read_images, split_by_runs, train_and_val

PLAIN = Preprocess(height=16, width=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def folder_of(counts: list[int]) -> ImageFolder:
    """A labelled set of so many numbered pictures a class, which are never opened."""
    items = [(Path(f"{target}/{i:03}.png"), target) for target, count in enumerate(counts) for i in range(count)]
    return ImageFolder(tuple(f"class {i}" for i in range(len(counts))), tuple(items), ())


def write_set(root: Path, counts: dict[str, int]) -> Path:
    for label, count in counts.items():
        (root / label).mkdir(parents=True)
        for i in range(count):
            surface("plain", i, (16, 16)).save(root / label / f"{i}.png")
    return root


# --- the split --------------------------------------------------------------------------------------------------------


@st.composite
def splits(draw: st.DrawFn) -> tuple[ImageFolder, float, int, int]:
    length = draw(st.integers(1, 7))
    counts = draw(st.lists(st.integers(length + 1, 60), min_size=1, max_size=4))
    return folder_of(counts), draw(st.floats(0.01, 0.99)), length, draw(st.integers(0, 999))


@given(splits())
def test_a_split_gives_every_picture_to_one_side_and_whole_runs_together(
    case: tuple[ImageFolder, float, int, int],
) -> None:
    folder, share, length, seed = case
    train, val = split_by_runs(folder, share, length, seed)
    assert not set(train.items) & set(val.items)
    assert Counter(train.items + val.items) == Counter(folder.items)
    assert train.labels == val.labels == folder.labels
    for target in range(len(folder.labels)):
        files = [item for item in folder.items if item[1] == target]
        runs = [files[i : i + length] for i in range(0, len(files), length)]
        held_out = [run for run in runs if run[0] in val.items]
        assert sorted(item for run in held_out for item in run) == sorted(i for i in val.items if i[1] == target)
        assert 1 <= len(held_out) < len(runs)
        assert abs(len(held_out) - share * len(runs)) <= 1


@given(splits())
def test_a_split_follows_from_its_seed(case: tuple[ImageFolder, float, int, int]) -> None:
    folder, share, length, seed = case
    assert split_by_runs(folder, share, length, seed) == split_by_runs(folder, share, length, seed)


def test_another_seed_holds_other_runs_out() -> None:
    folder = folder_of([100, 100])
    held_out = {split_by_runs(folder, 0.2, 5, seed)[1].items for seed in range(10)}
    assert len(held_out) == 10


def test_neighbours_are_by_number_and_not_by_spelling() -> None:
    names = [f"frame{i}.png" for i in range(1, 13)]  # as text, 10 comes before 2
    folder = ImageFolder(("a",), tuple((Path("a") / name, 0) for name in sorted(names)), ())
    train, val = split_by_runs(folder, 0.5, 3, 0)
    for side in (train, val):
        numbers = [int(path.stem.removeprefix("frame")) for path, _ in side.items]
        for start in range(0, len(numbers), 3):
            assert numbers[start : start + 3] == [numbers[start], numbers[start] + 1, numbers[start] + 2]


@pytest.mark.parametrize(
    "counts, share, length, seed, line",
    [
        (
            [9, 4],
            0.2,
            4,
            0,
            "class 'class 1' has 4 pictures, too few for two runs of 4; "
            "give more pictures, a shorter run, or train/ and val/ folders",
        ),
        ([9], 0.0, 2, 0, "validation share is 0.0; give a number between 0 and 1, such as 0.2"),
        ([9], 1.0, 2, 0, "validation share is 1.0; give a number between 0 and 1, such as 0.2"),
        ([9], float("nan"), 2, 0, "validation share is nan; give a number between 0 and 1, such as 0.2"),
        ([9], 0.2, 0, 0, "run length is 0 and seed 0; give 1 or more, and 0 or more"),
        ([9], 0.2, 2, -1, "run length is 2 and seed -1; give 1 or more, and 0 or more"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(
    counts: list[int], share: float, length: int, seed: int, line: str
) -> None:
    with pytest.raises(InputError) as refusal:
        split_by_runs(folder_of(counts), share, length, seed)
    assert str(refusal.value) == line


# --- folders ----------------------------------------------------------------------------------------------------------


def test_train_and_val_are_taken_where_they_are(tmp_path: Path) -> None:
    write_set(tmp_path / "train", {"a": 3, "b": 2})
    write_set(tmp_path / "val", {"a": 1, "b": 1})
    train, val = train_and_val(tmp_path, 0.5, 1, 0)
    assert (len(train), len(val)) == (5, 2)
    assert {path.parent.parent.name for path, _ in val.items} == {"val"}


def test_one_folder_is_split(tmp_path: Path) -> None:
    train, val = train_and_val(write_set(tmp_path, {"a": 6, "b": 4}), 0.5, 2, 0)
    assert (len(train), len(val)) == (4, 6)  # of 3 and 2 runs, 2 and 1 are held out
    assert val == split_by_runs(ImageFolder.open(tmp_path), 0.5, 2, 0)[1]


def test_sets_that_name_different_classes_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path / "train", {"a": 1, "b": 1})
    write_set(tmp_path / "val", {"a": 1, "c": 1})
    with pytest.raises(InputError, match=r"train and val name different classes \(b, c\); give both every class"):
        train_and_val(tmp_path, 0.5, 1, 0)


@pytest.mark.parametrize("there, missing", [("train", "val"), ("val", "train")])
def test_half_of_the_two_sets_is_refused(there: str, missing: str, tmp_path: Path) -> None:
    write_set(tmp_path / there, {"a": 4, "b": 4})
    with pytest.raises(InputError) as refusal:
        train_and_val(tmp_path, 0.5, 1, 0)
    assert str(refusal.value) == (
        f"{tmp_path}: has {there} but no {missing}; add it, or give {tmp_path / there} to have it split"
    )


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    train, _ = train_and_val(write_set(tmp_path, {"car": 4, "train": 4}), 0.5, 1, 0)
    assert train.labels == ("car", "train")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(tmp_path / "none")):
        train_and_val(tmp_path / "none", 0.5, 1, 0)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_are_read_by_the_code_of_the_runtime(tmp_path: Path) -> None:
    folder = ImageFolder.open(write_set(tmp_path, {"a": 2, "b": 1}))
    preprocess = Preprocess(height=8, width=8, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))
    images = read_images(folder, preprocess)
    assert (images.pixels.shape, images.pixels.dtype) == ((3, 8, 8, 3), np.uint8)
    assert images.targets.tolist() == [0, 0, 1]
    assert (images.labels, len(images)) == (("a", "b"), 3)
    tensor, targets = images.tensors(preprocess, np.array([2, 0]))
    assert targets.tolist() == [1, 0]
    for row, item in zip(tensor, (2, 0), strict=True):
        assert np.array_equal(row.numpy(), preprocess(folder.items[item][0]))


def test_the_statistics_are_those_of_all_pixels(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)
    pixels[..., 1] //= 2
    pixels[..., 2] = 7
    (tmp_path / "a").mkdir()
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "a" / f"{i}.png")
    found = normalisation(ImageFolder.open(tmp_path), 16)
    flat = pixels.reshape(-1, 3) / 255
    assert found.mean == tuple(np.round(flat.mean(axis=0), 3))
    assert found.std == (*np.round(flat.std(axis=0), 3)[:2], 0.001)  # never zero, one divides by it
    assert (found.height, found.width, found.resize) == (16, 16, "stretch")
