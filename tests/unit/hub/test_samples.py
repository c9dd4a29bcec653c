from __future__ import annotations

import hashlib

import numpy as np
import pytest

from edgevit.errors import InputError
from edgevit.samples import SAMPLE_KINDS, surface


def test_pictures_are_the_same_on_every_platform_and_python() -> None:
    digest = hashlib.sha256()
    for kind in SAMPLE_KINDS:
        digest.update(surface(kind, 3).tobytes())
        digest.update(surface(kind, 4, (200, 112)).tobytes())
    assert digest.hexdigest() == "7861d0a11e7db29814790e09ee3100e458ba79fec21cb9003b96beb9f7a69a35"


@pytest.mark.parametrize("kind", SAMPLE_KINDS)
def test_a_seed_gives_one_picture_and_another_seed_another(kind: str) -> None:
    assert surface(kind, 0).tobytes() == surface(kind, 0).tobytes()
    assert surface(kind, 0).tobytes() != surface(kind, 1).tobytes()


@pytest.mark.parametrize("kind", SAMPLE_KINDS[1:])
def test_a_defect_stands_out_of_the_plain_surface(kind: str) -> None:
    plain, defect = (np.asarray(surface(k, 5), dtype=float)[..., 0] for k in ("plain", kind))
    assert np.ptp(defect) > 1.3 * np.ptp(plain)
    assert 90 < np.median(defect) < 160


def test_the_size_is_width_by_height_and_the_channels_are_equal() -> None:
    image = surface("red_iron", 0, size=(224, 160))
    assert image.size == (224, 160)
    assert image.mode == "RGB"
    pixels = np.asarray(image)
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize(
    "kind, seed, size, message",
    [
        ("rust", 0, (128, 128), "'rust', wanted one of: plain"),
        ("plain", -1, (128, 128), "seed -1"),
        ("plain", 0, (8, 128), "8 x 128"),
    ],
)
def test_what_cannot_be_drawn_is_refused(kind: str, seed: int, size: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        surface(kind, seed, size)
