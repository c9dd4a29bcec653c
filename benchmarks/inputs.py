"""The batches a candidate runs: seeded noise, or preprocessed images from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgevit.errors import InputError

__all__ = ["batches_of_images", "noise_batches"]


def noise_batches(shape: Sequence[int], count: int, seed: int) -> list[np.ndarray]:
    """Standard normal batches of the given shape, the same for every candidate of that shape."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(tuple(shape), dtype=np.float32) for _ in range(count)]


def batches_of_images(path: Path, shape: Sequence[int]) -> tuple[int, list[np.ndarray]]:
    """Read M preprocessed images and lay them out as batches; the last one is filled up from the first images.

    Args:
        path: .npy file, float32 M x 3 x H x W.
        shape: of one batch, B x 3 x H x W.

    Returns:
        M, and the batches in order.

    Raises:
        InputError: not such a file, or images of another size than the graph takes.
    """
    try:
        images = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"images file '{path}' cannot be read ({error}); wanted a .npy of float32 images") from None
    if not isinstance(images, np.ndarray) or images.dtype != np.float32 or images.ndim != 4 or len(images) == 0:
        raise InputError(f"images file '{path}' must hold float32 images, M x 3 x H x W with M of at least 1")
    if images.shape[1:] != tuple(shape[1:]):
        raise InputError(
            f"images are {_size(images.shape[1:])}, the graph takes {_size(shape[1:])}; preprocess them for this graph"
        )
    count, batch = len(images), shape[0]
    order = np.arange(-(-count // batch) * batch) % count
    return count, [np.ascontiguousarray(images[order[i : i + batch]]) for i in range(0, len(order), batch)]


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
