"""Labelled pictures in memory, and a split that keeps neighbouring frames together."""

from __future__ import annotations

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

    Raises:
        InputError: a folder is missing or empty, or the two sets name different classes.
    """
    if (root / "train").is_dir() and (root / "val").is_dir():
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
        val_share: share of each class's runs that goes to validation, at least one run.
        run_length: neighbouring files in a run.
        seed: of the choice of runs.

    Raises:
        InputError: a class is too small to give both sides a run.
    """
    rng = np.random.default_rng(seed)
    train: list[tuple[Path, int]] = []
    val: list[tuple[Path, int]] = []
    for target, label in enumerate(folder.labels):
        files = [item for item in folder.items if item[1] == target]
        runs = [files[i : i + run_length] for i in range(0, len(files), run_length)]
        if len(runs) < 2:
            raise InputError(
                f"class '{label}' has {len(files)} pictures, too few for two runs of {run_length}; "
                "give more pictures, a shorter run, or train/ and val/ folders"
            )
        held_out = set(rng.permutation(len(runs))[: min(max(1, round(val_share * len(runs))), len(runs) - 1)].tolist())
        for i, run in enumerate(runs):
            (val if i in held_out else train).extend(run)
    return tuple(ImageFolder(folder.labels, tuple(items), ()) for items in (train, val))  # type: ignore[return-value]


def normalisation(folder: ImageFolder, size: int) -> Preprocess:
    """Preprocessing to `size` x `size` by the folder's own mean and standard deviation per channel, to 3 digits."""
    plain = Preprocess(height=size, width=size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    pixels = read_images(folder, plain).pixels.reshape(-1, 3)
    mean = tuple(round(float(value), 3) for value in pixels.mean(axis=0, dtype=np.float64) / 255)
    std = tuple(max(round(float(value), 3), 0.001) for value in pixels.std(axis=0, dtype=np.float64) / 255)
    return Preprocess(height=size, width=size, mean=mean, std=std)  # type: ignore[arg-type]
