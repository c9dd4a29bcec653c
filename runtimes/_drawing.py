"""What the overlays share: size, relief, type and the colours of a legend."""

from __future__ import annotations

from PIL import Image, ImageFont, ImageOps

__all__ = ["BACKGROUND", "LEGEND_PX", "MUTED", "TEXT", "beside", "enlarged", "font_for", "narrowed", "relief", "stack"]

_LONG_SIDE_PX = 384  # smaller pictures are enlarged to at least this, or their patches would be specks
_GAP_PX = 12
LEGEND_PX = 240  # the least width that a legend can be read at; a narrower picture stands in the middle above it

BACKGROUND, TEXT, MUTED = (22, 22, 28), (240, 240, 240), (160, 160, 170)


def enlarged(image: Image.Image) -> Image.Image:
    """The picture in RGB, larger by a whole factor if its long side is under 384 pixels; never the picture itself."""
    factor = -(-_LONG_SIDE_PX // max(image.size))
    picture = image.convert("RGB")
    return picture.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


def relief(picture: Image.Image) -> Image.Image:
    """The lights and darks of the picture between half and full strength, whatever its own contrast."""
    grey = ImageOps.autocontrast(picture.convert("L"), cutoff=0.5)
    return grey.point([128 + value // 2 for value in range(256)]).convert("RGB")


def font_for(width: int, height: int) -> ImageFont.FreeTypeFont:
    """The type of a legend under a picture of this size, pixels."""
    font = ImageFont.load_default(max(11.0, min(width / 32, height / 16)))
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's bitmap font is only for calls without a size
    return font


def narrowed(font: ImageFont.FreeTypeFont, text: str, width: float) -> ImageFont.FreeTypeFont:
    """The font, as much smaller as `text` needs to stay within `width` pixels."""
    taken = font.getlength(text)
    return font if taken <= width else font.font_variant(size=max(font.size * width / taken, 6.0))


def stack(top: Image.Image, bottom: Image.Image) -> Image.Image:
    """One picture above another, in its middle where it is the narrower one."""
    whole = Image.new("RGB", (bottom.width, top.height + bottom.height), BACKGROUND)
    whole.paste(top, ((bottom.width - top.width) // 2, 0))
    whole.paste(bottom, (0, top.height))
    return whole


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """One picture beside another."""
    whole = Image.new("RGB", (left.width + _GAP_PX + right.width, max(left.height, right.height)), BACKGROUND)
    whole.paste(left, (0, 0))
    whole.paste(right, (left.width + _GAP_PX, 0))
    return whole
