from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgevit.errors import InputError
from edgevit.preprocess import Preprocess, open_image

STEEL = Preprocess(height=4, width=6, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
PLAIN = Preprocess(height=8, width=8, mean=(0, 0, 0), std=(1, 1, 1))


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(0)).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


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


@pytest.mark.parametrize("size", [(4, 6), (9, 7)])
def test_a_batch_is_its_pictures_one_after_the_other(size: tuple[int, int]) -> None:
    images = [pixels(*size), 255 - pixels(*size)]
    batch = STEEL.batch(images)
    assert batch.shape == (2, 3, 4, 6)
    for tensor, image in zip(batch, images, strict=True):
        np.testing.assert_array_equal(tensor, STEEL(image))
    assert STEEL.batch([]).shape == (0, 3, 4, 6)


def test_the_picture_given_is_left_as_it_was() -> None:
    image = pixels(4, 6)
    before = image.copy()
    STEEL(image)[:] = 0
    np.testing.assert_array_equal(image, before)


def test_views_of_arrays_are_taken_as_what_they_show() -> None:
    big = pixels(8, 12)
    np.testing.assert_array_equal(STEEL(big[::2, ::2]), STEEL(big[::2, ::2].copy()))
    np.testing.assert_array_equal(STEEL(big[:4, :6, ::-1]), STEEL(big[:4, :6, ::-1].copy()))


def test_stretch_uses_the_whole_picture_and_crop_the_middle_of_it() -> None:
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, 4:12] = 255  # the middle half is white
    assert PLAIN(image)[:, :, 0].max() < 0.5
    assert replace(PLAIN, resize="crop")(image).min() == 1
    tall = image.transpose(1, 0, 2)
    assert replace(PLAIN, resize="crop")(tall).min() == 1


def test_a_crop_fraction_drops_the_border() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[4:12, 4:12] = 255
    np.testing.assert_array_equal(
        replace(PLAIN, resize="crop", crop_fraction=0.5, interpolation="bilinear")(image)[:, 1:-1, 1:-1], 1
    )
    assert replace(PLAIN, resize="crop", crop_fraction=1.0)(image).min() == 0


@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_plain_picture_stays_plain_whatever_the_resize(resize: str, interpolation: str) -> None:
    preprocess = Preprocess.from_dict({**PLAIN.to_dict(), "resize": resize, "interpolation": interpolation})
    np.testing.assert_allclose(preprocess(np.full((13, 29, 3), 51, np.uint8)), 0.2, atol=1e-6)


def test_the_filters_differ() -> None:
    image = pixels(19, 19)
    assert (PLAIN(image) != replace(PLAIN, interpolation="bicubic")(image)).any()


def test_greyscale_becomes_rgb_exactly(tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for format in ("PNG", "BMP", "TIFF"):
        (tmp_path / "a").write_bytes(encoded(Image.fromarray(grey), format))
        rgb = np.asarray(open_image(tmp_path / "a"))
        np.testing.assert_array_equal(rgb, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("format", ["BMP", "PNG", "TIFF", "WEBP", "JPEG"])
def test_the_formats_of_cameras_are_read(tmp_path: Path, format: str) -> None:
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(format, {})
    (tmp_path / "a").write_bytes(encoded(Image.fromarray(pixels(9, 7)), format, **options))
    read = np.asarray(open_image(tmp_path / "a")).astype(int)
    assert np.abs(read - pixels(9, 7)).max() <= (4 if format == "JPEG" else 0)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_a_files_orientation_is_applied_once(tmp_path: Path, format: str) -> None:
    image = Image.new("RGB", (32, 16))
    image.paste((255, 255, 255), (0, 0, 16, 16))  # white at the left
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    (tmp_path / "a").write_bytes(encoded(image, format, exif=exif))
    read = open_image(tmp_path / "a")
    assert read.size == (16, 32)
    assert np.asarray(read)[:15].min() > 200  # white at the top
    assert np.asarray(read)[17:].max() < 50
    np.testing.assert_array_equal(open_image(read), read)


def png(bits: int, colour_type: int, row: bytes) -> bytes:
    """A 4 x 4 PNG of a kind that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, bits, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress((b"\0" + row) * 4)) + chunk(b"IEND", b"")


def bmp_of_16_bits() -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 16, 0, 32, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 14 + 40 + 32, 0, 0, 54) + header + bytes(32)


RGB = Image.fromarray(pixels(64, 64))

REFUSED = {
    "empty": (b"", "is empty"),
    "text": (b"not an image at all", "not an image; wanted BMP, JPEG"),
    "gif": (encoded(RGB, "GIF"), "not an image"),
    "cmyk": (encoded(RGB.convert("CMYK"), "JPEG"), "are CMYK"),
    "palette": (encoded(RGB.convert("P"), "PNG"), "are palette"),
    "palette bmp": (encoded(RGB.convert("P"), "BMP"), "are palette"),
    "palette with transparency": (encoded(Image.new("P", (4, 4)), "PNG", transparency=0), "are palette"),
    "rgb with a transparent colour": (encoded(RGB, "PNG", transparency=(1, 2, 3)), "has a transparent colour"),
    "alpha": (encoded(RGB.convert("RGBA"), "PNG"), "are RGB with alpha"),
    "webp with alpha": (encoded(Image.new("RGBA", (4, 4), (1, 2, 3, 4)), "WEBP"), "are RGB with alpha"),
    "grey with alpha": (encoded(RGB.convert("LA"), "PNG"), "are greyscale with alpha"),
    "1-bit": (encoded(RGB.convert("1"), "PNG"), "are 1-bit"),
    "1-bit bmp": (encoded(RGB.convert("1"), "BMP"), "are 1-bit"),
    "16-bit grey png": (encoded(Image.new("I;16", (4, 4)), "PNG"), "are 16-bit"),
    "16-bit grey tiff": (encoded(Image.new("I;16", (4, 4)), "TIFF"), "are 16-bit"),
    "16-bit rgb png": (png(16, 2, bytes(24)), "stored with 16 bits"),
    "16-bit rgb bmp": (bmp_of_16_bits(), "stored with 1[56] bits"),
    "32-bit float tiff": (encoded(Image.new("F", (4, 4)), "TIFF"), "are 32-bit float"),
    "32-bit integer tiff": (encoded(Image.new("I", (4, 4)), "TIFF"), "are 32-bit integer"),
    "lab tiff": (encoded(Image.new("LAB", (4, 4)), "TIFF"), "are LAB"),
    "4-bit grey png": (png(4, 0, bytes(2)), "stored with 4 bits"),
    "two pages": (encoded(RGB, "TIFF", save_all=True, append_images=[RGB]), "holds 2 pictures"),
    "animation": (encoded(RGB, "WEBP", save_all=True, append_images=[Image.new("RGB", (64, 64))]), "holds 2 pictures"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_would_have_to_be_converted_is_refused(tmp_path: Path, case: str) -> None:
    data, message = REFUSED[case]
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        open_image(tmp_path / "a.png")
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(str(tmp_path / "a.png"))


@pytest.mark.parametrize("format", ["BMP", "PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, format: str, kept: float) -> None:
    data = encoded(RGB, format)
    (tmp_path / "a").write_bytes(data[: int(kept * len(data))])
    with pytest.raises(InputError, match=r"damaged or truncated|not an image") as caught:
        open_image(tmp_path / "a")
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_missing_or_a_folder_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\)"):
        open_image(tmp_path / "missing.png")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        open_image(tmp_path)


def test_a_picture_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    data = bytearray(encoded(RGB, "BMP"))
    data[18:26] = (60_000).to_bytes(4, "little") * 2
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InputError, match=r"not an image|damaged"):
        open_image(tmp_path / "a")


@pytest.mark.parametrize("mode", ["1", "CMYK", "F", "I", "I;16", "LA", "P", "RGBA", "RGBX", "YCbCr", "HSV", "LAB"])
def test_a_pil_image_of_another_mode_is_refused(mode: str) -> None:
    with pytest.raises(InputError, match="wanted 8-bit RGB or 8-bit greyscale"):
        open_image(Image.new(mode, (4, 4)))


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((4, 6, 3)), "float64 array of shape 4 x 6 x 3"),
        (np.zeros((4, 6, 3), np.uint16), "uint16"),
        (np.zeros((4, 6), np.uint8), "of shape 4 x 6, wanted"),
        (np.zeros((4, 6, 4), np.uint8), "of shape 4 x 6 x 4, wanted"),
        (np.zeros((3, 4, 6), np.uint8), "of shape 3 x 4 x 6, wanted"),
        (np.zeros((0, 6, 3), np.uint8), "of shape 0 x 6 x 3, wanted"),
        (np.zeros((), np.uint8), r"of shape \(\), wanted"),
    ],
)
def test_an_array_of_another_shape_or_dtype_is_refused(array: np.ndarray, message: str) -> None:
    for opener in (open_image, STEEL):
        with pytest.raises(InputError, match=message):
            opener(array)


def test_what_is_no_image_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="got bytes, wanted a path"):
        open_image(b"abc")  # type: ignore[arg-type]


@given(st.binary(max_size=64), st.sampled_from(["BMP", "PNG", "TIFF", "WEBP", "JPEG"]), st.floats(0, 1))
def test_damaged_bytes_are_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, format: str, at: float
) -> None:
    data = bytearray(encoded(RGB, format))
    start = int(at * len(data))
    data[start : start + len(noise)] = noise
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data)
    try:
        image = open_image(path)
    except InputError as error:
        problem = str(error)
    else:
        assert image.mode == "RGB"
        return
    assert len(problem.splitlines()) == 1


def test_what_to_dict_gives_from_dict_reads() -> None:
    crop = replace(STEEL, resize="crop", crop_fraction=0.875, interpolation="bicubic")
    for preprocess in (STEEL, crop):
        assert Preprocess.from_dict(preprocess.to_dict()) == preprocess


@pytest.mark.parametrize(
    "change, message",
    [
        ({"height": 0}, "wanted at least 1 x 1"),
        ({"mean": (0.0, float("nan"), 0.0)}, "mean"),
        ({"std": (0.1, 0.0, 0.1)}, "std"),
        ({"resize": "crop", "crop_fraction": 0.0}, "above 0 and at most 1"),
        ({"crop_fraction": 0.5}, "no effect with resize 'stretch'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(STEEL, **change)


@pytest.mark.parametrize("change", [{"mean": [0.5]}, {"resize": "pad"}, {"height": "8"}, {"colour": "rgb"}])
def test_a_record_that_is_not_one_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"^preprocess: .*{next(iter(change))}"):
        Preprocess.from_dict({**STEEL.to_dict(), **change})
