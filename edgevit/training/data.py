"""Labelled pictures in memory, and a split that keeps neighbouring frames together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgevit.errors import InputError
from edgevit.image_folder import ImageFolder
from edgevit.preprocess import Preprocess

__all__ = ["LabelledImages", "normalisation", "read_images", "split_by_runs", "train_and_val"]


@dataclass(frozen=True)
class LabelledImages:
    """Pictures resized as the model will see them: n x H x W x 3 uint8, with n class indices (int64)."""

    pixels: np.ndarray
    targets: np.ndarray
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.targets)

    def tensors(self, preprocess: Preprocess, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """The pictures at `index` as the model takes them: B x 3 x H x W float32, and B int64 classes."""
        images = torch.from_numpy(preprocess.batch([self.pixels[i] for i in index]))
        return images, torch.from_numpy(self.targets[index])


def read_images(folder: ImageFolder, preprocess: Preprocess) -> LabelledImages:
    """Decode and resize a folder per class, by the same code as the runtime.

    Raises:
        InputError: a picture cannot be read or has an unsupported format.
    """
    pixels = np.stack([np.asarray(preprocess.resized(path)) for path, _ in folder.items])
    return LabelledImages(pixels, np.array([target for _, target in folder.items]), folder.labels)


def train_and_val(root: Path, val_share: float, run_length: int, seed: int) -> tuple[ImageFolder, ImageFolder]:
    """`root/train` and `root/val` where they exist, else `root` split by `split_by_runs`.

    Args:
        root: the folder.
        val_share: as `split_by_runs`.
        run_length: as `split_by_runs`.
        seed: as `split_by_runs`.

    Raises:
        InputError: a folder is missing or empty, one of `train` and `val` is missing, or the two name different
            classes; otherwise as `split_by_runs`.
    """
    parts = [name for name in ("train", "val") if (root / name).is_dir()]
    if len(parts) == 1 and any(path.is_dir() for path in (root / parts[0]).iterdir()):
        other = "val" if parts[0] == "train" else "train"
        raise InputError(f"{root}: has {parts[0]} but no {other}; add it, or give {root / parts[0]} to have it split")
    if len(parts) == 2:
        train, val = ImageFolder.open(root / "train"), ImageFolder.open(root / "val")
        if train.labels != val.labels:
            only = sorted(set(train.labels) ^ set(val.labels))
            raise InputError(f"{root}: train and val name different classes ({', '.join(only)}); give both every class")
        return train, val
    return split_by_runs(ImageFolder.open(root), val_share, run_length, seed)


def split_by_runs(folder: ImageFolder, val_share: float, run_length: int, seed: int) -> tuple[ImageFolder, ImageFolder]:
    """Split each class into runs of neighbouring files and give whole runs to one side.

    Frames of an inspection line follow each other: a random split would put near-copies of a training picture
    into the validation set and flatter the model.

    Args:
        folder: all pictures, in the order of their names within a class.
        val_share: share of each class's runs that goes to validation, at least one run; above 0 and below 1.
        run_length: neighbouring files in a run, 1 or more; numbers in names count as numbers, so 2.jpg and 10.jpg
            stand in this order.
        seed: of the choice of runs, 0 or more.

    Raises:
        InputError: a number is out of range, or a class is too small to give both sides a run.
    """
    if not 0 < val_share < 1:
        raise InputError(f"validation share is {val_share}; give a number between 0 and 1, such as 0.2")
    if run_length < 1 or seed < 0:
        raise InputError(f"run length is {run_length} and seed {seed}; give 1 or more, and 0 or more")
    rng = np.random.default_rng(seed)
    train: list[tuple[Path, int]] = []
    val: list[tuple[Path, int]] = []
    for target, label in enumerate(folder.labels):
        files = sorted((item for item in folder.items if item[1] == target), key=lambda item: _natural(item[0].name))
        runs = [files[i : i + run_length] for i in range(0, len(files), run_length)]
        if len(runs) < 2:
            raise InputError(
                f"class '{label}' has {len(files)} pictures, too few for two runs of {run_length}; "
                "give more pictures, a shorter run, or train/ and val/ folders"
            )
        held_out = set(rng.permutation(len(runs))[: min(max(1, round(val_share * len(runs))), len(runs) - 1)].tolist())
        for i, run in enumerate(runs):
            (val if i in held_out else train).extend(run)
    return ImageFolder(folder.labels, tuple(train), ()), ImageFolder(folder.labels, tuple(val), ())


def normalisation(folder: ImageFolder, size: int) -> Preprocess:
    """Preprocessing to `size` x `size` by the folder's own mean and standard deviation per channel, to 3 digits.

    Raises:
        InputError: a picture cannot be read or has an unsupported format.
    """
    plain = Preprocess(height=size, width=size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    # Whole numbers, so that the sums are exact and no picture is kept.
    total, squares = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for path, _ in folder.items:
        pixels = np.asarray(plain.resized(path)).reshape(-1, 3).astype(np.int64)
        total += pixels.sum(axis=0)
        squares += (pixels * pixels).sum(axis=0)
    count = len(folder) * size * size
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean * mean, 0))
    return Preprocess(height=size, width=size, mean=_digits(mean / 255), std=_digits(np.maximum(std / 255, 0.001)))


def _digits(channels: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (round(value, 3) for value in channels.tolist())
    return red, green, blue


def _natural(name: str) -> list[str | int]:
    """A key that sorts numbers within names by value; text and numbers alternate, so that keys compare."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]
