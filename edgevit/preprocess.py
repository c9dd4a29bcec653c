"""From a picture to the tensor a graph takes: one piece of code for training, export, verification and the runtime.

Nothing happens silently here: a picture that would need a conversion that loses something is refused.

Does not know: labels, models, batches of a graph, augmentation.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageFile, ImageOps

from edgevit.errors import InputError
from edgevit.files import reading
from edgevit.strict_json import build, plain

__all__ = ["ImageSource", "Interpolation", "Preprocess", "Resize", "open_image"]

ImageSource = str | Path | Image.Image | np.ndarray
Resize = Literal["stretch", "crop"]
Interpolation = Literal["bilinear", "bicubic"]

_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_REFUSED_MODES = {
    "1": "1-bit",
    "CMYK": "CMYK",
    "F": "32-bit float",
    "I": "32-bit integer",
    "LA": "greyscale with alpha",
    "La": "greyscale with alpha",
    "P": "palette",
    "PA": "palette with alpha",
    "RGBA": "RGB with alpha",
    "RGBa": "RGB with alpha",
}
_WANTED = "wanted 8-bit RGB or 8-bit greyscale; convert it first"


def open_image(source: ImageSource) -> Image.Image:
    """The picture as 8-bit RGB.

    8-bit greyscale becomes RGB, which is exact. A file's EXIF orientation is applied; a PIL image is taken as it
    stands. Of a JPEG that carries previews beside the picture, the picture is taken.

    Args:
        source: path of a BMP, JPEG, PNG, TIFF or WebP file, a PIL image, or an H x W x 3 uint8 array.

    Raises:
        InputError: there is no such file; it is empty, truncated or not an image; it holds several pictures; its
            pixels are not 8-bit RGB or greyscale; the array has another shape or dtype.
    """
    if isinstance(source, np.ndarray):
        return Image.fromarray(_checked_pixels(source))
    if isinstance(source, Image.Image):
        _check_mode(source, "image")
        image = source
    elif isinstance(source, (str, Path)):
        image = _read(Path(source))
    else:
        raise InputError(f"got {type(source).__name__}, wanted a path, a PIL image or an H x W x 3 uint8 array")
    return image if image.mode == "RGB" else image.convert("RGB")


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """From a picture to a float32 tensor of a fixed shape: resize, scale to 0..1, subtract `mean`, divide by `std`.

    Attributes:
        height: rows of the tensor, pixels.
        width: columns of the tensor, pixels.
        mean: of red, green and blue, on the scale 0..1.
        std: of red, green and blue, on the scale 0..1.
        resize: `stretch` the whole picture to the shape, or `crop` the largest centred part of the same aspect.
        crop_fraction: share of that part's sides to keep under `crop`, above 0 and at most 1.
        interpolation: the filter of a resize. A picture that already has the size is never resampled.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Resize = "stretch"
    crop_fraction: float = 1.0
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise InputError(f"preprocess: got size {self.height} x {self.width}, wanted at least 1 x 1")
        if not all(math.isfinite(value) for value in self.mean):
            raise InputError(f"preprocess: got mean {self.mean}, wanted finite numbers")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise InputError(f"preprocess: got std {self.std}, wanted finite numbers above 0")
        if not 0 < self.crop_fraction <= 1:
            raise InputError(f"preprocess: got crop_fraction {self.crop_fraction}, wanted above 0 and at most 1")
        if self.resize == "stretch" and self.crop_fraction != 1:
            raise InputError(f"preprocess: crop_fraction {self.crop_fraction} has no effect with resize 'stretch'; "
                             f"use 'crop' or leave it at 1")  # fmt: skip

    def __call__(self, image: ImageSource) -> np.ndarray:
        """The tensor of one picture, 3 x H x W, float32, C-contiguous.

        Raises:
            InputError: as `open_image`.
        """
        tensor: np.ndarray = self.batch([image])[0]
        return tensor

    def batch(self, images: Sequence[ImageSource]) -> np.ndarray:
        """The tensor of several pictures, B x 3 x H x W, float32, C-contiguous.

        Raises:
            InputError: as `open_image`.
        """
        std = np.asarray(self.std)
        scale = (1 / (255 * std)).astype(np.float32).reshape(3, 1, 1)
        offset = (-np.asarray(self.mean) / std).astype(np.float32).reshape(3, 1, 1)
        tensor = np.empty((len(images), 3, self.height, self.width), np.float32)
        for image, planes in zip(images, tensor, strict=True):
            # Moving the channels first while they are bytes is a quarter of the memory traffic of moving floats.
            np.multiply(np.ascontiguousarray(self._pixels(image).transpose(2, 0, 1)), scale, out=planes)
            planes += offset
        return tensor

    def resized(self, image: ImageSource) -> Image.Image:
        """The picture as the graph sees it, before scaling: RGB of `width` x `height`.

        Raises:
            InputError: as `open_image`.
        """
        picture = open_image(image)
        size = (self.width, self.height)
        if picture.size == size and self.crop_fraction == 1:
            return picture
        box = None
        if self.resize == "crop":
            scale = self.crop_fraction * min(picture.width / self.width, picture.height / self.height)
            left, top = (picture.width - scale * self.width) / 2, (picture.height - scale * self.height) / 2
            box = (left, top, picture.width - left, picture.height - top)
        return picture.resize(size, _FILTERS[self.interpolation], box)

    def to_dict(self) -> dict[str, Any]:
        return dict(plain(self))

    @classmethod
    def from_dict(cls, record: object, where: str = "preprocess") -> Preprocess:
        """Read back what `to_dict` gave.

        Raises:
            InputError: a wrong type or value, a missing or an unknown key.
        """
        return build(cls, record, where)

    def _pixels(self, image: ImageSource) -> np.ndarray:
        """The resized picture, H x W x 3 uint8; an array that needs no resize is used as it stands."""
        if isinstance(image, np.ndarray) and self.crop_fraction == 1 and image.shape == (self.height, self.width, 3):
            return _checked_pixels(image)
        return np.asarray(self.resized(image))


def _checked_pixels(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        shape = " x ".join(map(str, pixels.shape))
        raise InputError(f"got a {pixels.dtype} array of shape {shape or '()'}, wanted uint8 of shape H x W x 3 (RGB)")
    return pixels


def _check_mode(image: Image.Image, name: str) -> None:
    if image.mode not in ("RGB", "L"):
        kind = "16-bit" if image.mode.startswith("I;16") else _REFUSED_MODES.get(image.mode, image.mode)
        raise InputError(f"{name}: pixels are {kind}, {_WANTED}")
    if "transparency" in image.info:
        raise InputError(f"{name}: has a transparent colour; {_WANTED}")


def _read(path: Path) -> Image.Image:
    with reading(path, "wanted an image file"):
        data = path.read_bytes()
    if not data:
        raise InputError(f"{path}: is empty, wanted an image file")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        pictures = getattr(image, "n_frames", 1)
    except Exception as error:  # on damaged bytes Pillow's readers raise nearly anything
        raise InputError(f"{path}: not an image; wanted {', '.join(_FORMATS)}") from error
    if pictures > 1 and image.format != "MPO":  # MPO is a JPEG with previews
        raise InputError(f"{path}: holds {pictures} pictures, wanted one; save the wanted one by itself")
    _check_mode(image, str(path))
    stored = _stored_bits(image)
    if stored != 8:
        raise InputError(f"{path}: pixels are stored with {stored} bits a channel, {_WANTED}")
    try:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:
        raise InputError(f"{path}: damaged or truncated ({_one_line(error)}); get a whole copy of it") from error
    return image


def _stored_bits(image: ImageFile.ImageFile) -> int:
    """Bits a channel in the file: Pillow reads 16-bit RGB as mode RGB and drops the low bytes without a word."""
    for tile in image.tile:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        stated = re.search(r";(\d+)", str(arguments[0])) if arguments else None
        if stated:
            return int(stated[1])
    return 8


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
