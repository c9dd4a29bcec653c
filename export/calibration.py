"""The pictures that a precision is calibrated on, as the batches of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgevit.errors import InputError
from edgevit.image_folder import list_images
from edgevit.preprocess import Preprocess, open_image

__all__ = ["CalibrationBatches", "calibration_batches", "calibration_paths"]


def calibration_paths(folder: Path, samples: int) -> list[Path]:
    """Pictures of a folder and below it, spread evenly over the sorted paths, so that no class is left out.

    Args:
        folder: of pictures, with or without a folder per class.
        samples: how many to take at most; all if there are fewer.

    Raises:
        InputError: no such folder, no picture in it, or fewer than one sample.
    """
    if samples < 1:
        raise InputError(f"got {samples} calibration samples, wanted 1 or more")
    paths = list_images(folder)
    chosen = np.linspace(0, len(paths) - 1, min(samples, len(paths))).round().astype(int)
    return [paths[index] for index in chosen]


@dataclass
class CalibrationBatches:
    """Pictures as tensors of a graph's input; they can be gone through any number of times, and are never kept.

    Attributes:
        paths: of the pictures, in order.
        preprocess: of the model: a picture of another size is resized as `predict` would.
        batch: pictures a tensor; the last one is filled up by beginning again.
    """

    paths: Sequence[Path]
    preprocess: Preprocess
    batch: int
    _resized: set[Path] = field(default_factory=set, init=False, repr=False)

    @property
    def pictures(self) -> int:
        """Pictures in one pass, those aside that fill up the last batch."""
        return len(self.paths)

    def __len__(self) -> int:
        """Batches in one pass."""
        return -(-len(self.paths) // self.batch)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Tensors B x 3 x H x W, float32.

        Raises:
            InputError: a picture that `predict` would refuse.
        """
        size = (self.preprocess.width, self.preprocess.height)
        for start in range(0, len(self.paths), self.batch):
            paths = [self.paths[index % len(self.paths)] for index in range(start, start + self.batch)]
            pictures = [open_image(path) for path in paths]
            self._resized.update(path for path, picture in zip(paths, pictures, strict=True) if picture.size != size)
            yield self.preprocess.batch(pictures)

    def notes(self, asked: int | None = None) -> tuple[str, ...]:
        """What somebody should know of the pictures of the passes made so far, one line each.

        Args:
            asked: how many pictures were wanted.
        """
        notes = []
        if asked is not None and len(self.paths) < asked:
            notes.append(f"asked for {asked} calibration pictures and got {len(self.paths)}: there are no more")
        if self._resized:
            notes.append(
                f"{len(self._resized)} of {len(self.paths)} calibration pictures are not {self.preprocess.width} x "
                f"{self.preprocess.height} pixels and were resized, as predict does"
            )
        return tuple(notes)


def calibration_batches(paths: Sequence[Path], preprocess: Preprocess, batch: int) -> CalibrationBatches:
    """The pictures as batches for a graph of that batch size.

    Raises:
        InputError: no picture, or a batch of fewer than one.
    """
    if not paths:
        raise InputError("got no calibration picture; name a folder of pictures with --calibration-data")
    if batch < 1:
        raise InputError(f"got a batch of {batch}, wanted 1 or more")
    return CalibrationBatches(tuple(paths), preprocess, batch)
