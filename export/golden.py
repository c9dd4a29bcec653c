"""The inputs an artefact is proved on: surfaces, extremes, and noise far outside what a camera gives."""

from __future__ import annotations

import numpy as np
from PIL import Image

from edgevit.preprocess import Preprocess
from edgevit.samples import SAMPLE_KINDS, surface

__all__ = ["verification_inputs"]

_NOISE_SCALES = (0.1, 0.3, 1.0, 3.0, 10.0)


def verification_inputs(preprocess: Preprocess) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and images, n x 3 x H x W float32, at least 16, the same for the same preprocessing.

    Every value is exact in float16, so that storing them so changes nothing.
    """
    size = (preprocess.width, preprocess.height)
    pictures = {f"generated {kind}": surface(kind, seed=1, size=size) for kind in SAMPLE_KINDS}
    pictures |= {colour: Image.new("RGB", size, colour) for colour in ("black", "white")}
    images = list(preprocess.batch(list(pictures.values())))
    names = list(pictures)
    shape = (3, preprocess.height, preprocess.width)
    images.append(np.zeros(shape, np.float32))
    names.append("zeros")
    rng = np.random.default_rng(0)
    for scale in _NOISE_SCALES:
        images.append((scale * rng.standard_normal(shape)).astype(np.float32))
        names.append(f"noise of scale {scale:g}")
    return tuple(names), np.stack(images).astype(np.float16).astype(np.float32)
