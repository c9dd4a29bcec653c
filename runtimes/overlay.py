"""The depth map drawn over the picture: where on the surface the model went on looking.

Does not know: sessions, labels, files. It takes a picture and a trace and returns a picture.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageOps

from .prediction import RoutingTrace

__all__ = ["draw_depth"]

_LONG_SIDE_PX = 384  # smaller pictures are enlarged to at least this, or their patches would be specks

# Shallow to deep: hue turns from violet to pale yellow while lightness only rises (CIELAB L* about 17, 33, 49, 65,
# 81, 95), so the order survives greyscale printing and colour blindness.
_HEAT = np.array([(59, 16, 104), (137, 28, 120), (211, 57, 93), (252, 119, 55), (255, 190, 75), (251, 243, 176)])
_LEGEND_PX = 240  # the least width that a legend can be read at; a narrower picture stands in the middle above it
_ALPHA_SHALLOW, _ALPHA_DEEP = 0.40, 0.70

_BACKGROUND, _TEXT, _MUTED = (22, 22, 28), (240, 240, 240), (160, 160, 170)


def draw_depth(image: Image.Image, trace: RoutingTrace) -> Image.Image:
    """Lay the colours of the depth each patch reached over the picture, and a legend with the shares below it.

    Args:
        image: the part of the picture that the graph saw: the whole one, or, where preprocessing crops, what
            `Preprocess.resized` gives.
        trace: the routing of that picture; the grid is stretched over the whole image.

    Returns:
        An RGB picture: the given one above the legend, enlarged by a whole factor if its long side is under 384 pixels.
    """
    factor = -(-_LONG_SIDE_PX // max(image.size))
    size = (image.width * factor, image.height * factor)
    picture = image.convert("RGB")
    if factor > 1:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    steps = len(trace.counts)
    colours = _colours(steps)

    # Entry 0 is for a patch that no step took: it is left as it is.
    tint = np.concatenate([colours[:1], colours])[trace.depth]
    alphas = np.concatenate([[0.0], np.linspace(_ALPHA_SHALLOW, _ALPHA_DEEP, steps)])
    alpha = (alphas * 255).astype(np.uint8)[trace.depth]
    flat, mask = (Image.fromarray(cells).resize(size, Image.Resampling.NEAREST) for cells in (tint, alpha))
    # A flat colour would hide most where the model looked longest, so the colour carries the picture's relief.
    tinted = Image.composite(ImageChops.multiply(flat, _relief(picture)), picture, mask)
    shares = np.bincount(trace.depth.ravel(), minlength=steps + 1)[1:] / trace.depth.size
    return _stack(tinted, _legend((max(size[0], _LEGEND_PX), size[1]), colours, shares))


def _relief(picture: Image.Image) -> Image.Image:
    """The lights and darks of the picture between half and full strength, whatever its own contrast."""
    grey = ImageOps.autocontrast(picture.convert("L"), cutoff=0.5)
    return grey.point([128 + value // 2 for value in range(256)]).convert("RGB")


def _colours(steps: int) -> np.ndarray:
    """One colour a depth, steps x 3 uint8, evenly spaced along the palette."""
    at = np.linspace(0, len(_HEAT) - 1, steps)
    channels = [np.interp(at, np.arange(len(_HEAT)), channel) for channel in _HEAT.T]
    colours: np.ndarray = np.stack(channels, axis=1).round().astype(np.uint8)
    return colours


def _legend(size: tuple[int, int], colours: np.ndarray, shares: np.ndarray) -> Image.Image:
    """The strip for a picture of `size`: each depth's colour, its number and the share of patches that ended there."""
    width, height = size
    rows = (("depth", *map(str, range(1, len(shares) + 1))), ("patches", *map(_percent, shares)))
    base = _font(max(11.0, min(width / 32, height / 16)))
    left = 1.25 * base.getlength("patches")
    cell = (width - left) / len(shares)
    font = _narrowed(base, max((text for row in rows for text in row[1:]), key=base.getlength), 0.9 * cell)
    bar, line = max(round(base.size / 2), 4), 1.3 * base.size
    legend = Image.new("RGB", (width, round(bar + 2.3 * line)), _BACKGROUND)
    draw = ImageDraw.Draw(legend)
    for index, colour in enumerate(colours.tolist()):
        edges = round(left + index * cell), 0, round(left + (index + 1) * cell) - 1, bar - 1
        draw.rectangle(edges, fill=tuple(colour))
    for row, ink, middle in zip(rows, (_TEXT, _MUTED), (bar + 0.75 * line, bar + 1.7 * line), strict=True):
        draw.text((left / 2, middle), row[0], fill=_MUTED, font=base, anchor="mm")
        for index, text in enumerate(row[1:]):
            draw.text((left + (index + 0.5) * cell, middle), text, fill=ink, font=font, anchor="mm")
    return legend


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's bitmap font is only for calls without a size
    return font


def _narrowed(font: ImageFont.FreeTypeFont, text: str, width: float) -> ImageFont.FreeTypeFont:
    """The font, as much smaller as `text` needs to stay within `width` pixels."""
    taken = font.getlength(text)
    return font if taken <= width else font.font_variant(size=max(font.size * width / taken, 6.0))


def _percent(share: float) -> str:
    return "<1 %" if 0 < share < 0.005 else f"{share:.0%}".replace("%", " %")


def _stack(top: Image.Image, bottom: Image.Image) -> Image.Image:
    whole = Image.new("RGB", (bottom.width, top.height + bottom.height), _BACKGROUND)
    whole.paste(top, ((bottom.width - top.width) // 2, 0))
    whole.paste(bottom, (0, top.height))
    return whole
