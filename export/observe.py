"""How many patches each step takes on somebody's pictures, as the source model counts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from edgevit.models.recursive import RecursiveViT
from edgevit.models.routing import route_mask
from edgevit.preprocess import Preprocess
from edgevit.spec import RoutingSpec

from .calibration import calibration_paths

__all__ = ["fullest_of_batches", "observed_counts"]

_AT_ONCE = 8


def observed_counts(
    model: RecursiveViT, routing: RoutingSpec, preprocess: Preprocess, folder: Path, samples: int
) -> np.ndarray:
    """Active patches of each image at each step after the first: n x (R - 1) integers.

    Args:
        model: in eval mode, on the CPU.
        routing: its selection rule.
        preprocess: of the model.
        folder: images in it and below.
        samples: how many to take at most, spread evenly over the sorted paths, so that no class is left out.

    Raises:
        InputError: no such folder, no image in it, or one that cannot be read.
    """
    taken = calibration_paths(folder, samples)
    counts = []
    with torch.inference_mode():
        for start in range(0, len(taken), _AT_ONCE):
            images = torch.from_numpy(preprocess.batch(taken[start : start + _AT_ONCE]))
            counts.append(route_mask(model, images, routing.selection).counts[:, 1:].numpy())
    return np.concatenate(counts)


def fullest_of_batches(counts: np.ndarray, batch: int) -> np.ndarray:
    """What decides for a batch, its fullest image: n x (R - 1) to one row a batch of images drawn at random."""
    if batch == 1:
        return counts
    draws = np.random.default_rng(0).integers(len(counts), size=(max(len(counts), 100), batch))
    fullest: np.ndarray = counts[draws].max(axis=1)
    return fullest
