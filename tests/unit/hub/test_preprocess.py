from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevit.errors import InputError
from edgevit.preprocess import Preprocess, open_image

STEEL = Preprocess(height=4, width=6, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(0)).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_picture_of_the_right_size_is_scaled_and_not_resampled() -> None:
    image = pixels(4, 6)
    tensor = STEEL(image)
    expected = (image / 255 - np.array(STEEL.mean)) / np.array(STEEL.std)
    np.testing.assert_allclose(tensor, expected.transpose(2, 0, 1), atol=1e-6)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous


def test_a_path_a_pil_image_and_an_array_give_the_same_tensor(tmp_path: Path) -> None:
    image = pixels(9, 7)
    Image.fromarray(image).save(tmp_path / "a.png")
    expected = STEEL(image)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(image), image[::-1][::-1]):
        np.testing.assert_array_equal(STEEL(source), expected)


def test_greyscale_becomes_rgb_exactly() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    rgb = np.asarray(open_image(Image.fromarray(grey)))
    np.testing.assert_array_equal(rgb, np.repeat(grey[..., None], 3, axis=2))


def test_what_to_dict_gives_from_dict_reads() -> None:
    assert Preprocess.from_dict(STEEL.to_dict()) == STEEL


def test_a_palette_picture_is_refused() -> None:
    with pytest.raises(InputError, match="palette"):
        open_image(Image.new("P", (4, 4)))
