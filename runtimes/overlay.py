"""The depth map drawn over the picture: where on the surface the model went on looking.

Does not know: sessions, labels, files. It takes a picture and a trace and returns a picture.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from ._drawing import BACKGROUND, LEGEND_PX, MUTED, TEXT, enlarged, font_for, narrowed, relief, stack
from .prediction import RoutingTrace

__all__ = ["draw_depth"]

# Shallow to deep: hue turns from violet to pale yellow while lightness only rises (CIELAB L* about 17, 33, 49, 65,
# 81, 95), so the order survives greyscale printing and colour blindness.
_HEAT = np.array([(59, 16, 104), (137, 28, 120), (211, 57, 93), (252, 119, 55), (255, 190, 75), (251, 243, 176)])
_ALPHA_SHALLOW, _ALPHA_DEEP = 0.40, 0.70


def draw_depth(image: Image.Image, trace: RoutingTrace) -> Image.Image:
    """Lay the colours of the depth each patch reached over the picture, and a legend with the shares below it.

    Args:
        image: the part of the picture that the graph saw: the whole one, or, where preprocessing crops, what
            `Preprocess.resized` gives.
        trace: the routing of that picture; the grid is stretched over the whole image.

    Returns:
        An RGB picture: the given one above the legend, enlarged by a whole factor if its long side is under 384 pixels.
    """
    picture = enlarged(image)
    size = picture.size
    steps = len(trace.counts)
    colours = _colours(steps)

    # Entry 0 is for a patch that no step took: it is left as it is.
    tint = np.concatenate([colours[:1], colours])[trace.depth]
    alphas = np.concatenate([[0.0], np.linspace(_ALPHA_SHALLOW, _ALPHA_DEEP, steps)])
    alpha = (alphas * 255).astype(np.uint8)[trace.depth]
    flat, mask = (Image.fromarray(cells).resize(size, Image.Resampling.NEAREST) for cells in (tint, alpha))
    # A flat colour would hide most where the model looked longest, so the colour carries the picture's relief.
    tinted = Image.composite(ImageChops.multiply(flat, relief(picture)), picture, mask)
    shares = np.bincount(trace.depth.ravel(), minlength=steps + 1)[1:] / trace.depth.size
    return stack(tinted, _legend((max(size[0], LEGEND_PX), size[1]), colours, shares))


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
    base = font_for(width, height)
    left = 1.25 * base.getlength("patches")
    cell = (width - left) / len(shares)
    font = narrowed(base, max((text for row in rows for text in row[1:]), key=base.getlength), 0.9 * cell)
    bar, line = max(round(base.size / 2), 4), 1.3 * base.size
    legend = Image.new("RGB", (width, round(bar + 2.3 * line)), BACKGROUND)
    draw = ImageDraw.Draw(legend)
    for index, colour in enumerate(colours.tolist()):
        edges = round(left + index * cell), 0, round(left + (index + 1) * cell) - 1, bar - 1
        draw.rectangle(edges, fill=tuple(colour))
    for row, ink, middle in zip(rows, (TEXT, MUTED), (bar + 0.75 * line, bar + 1.7 * line), strict=True):
        draw.text((left / 2, middle), row[0], fill=MUTED, font=base, anchor="mm")
        for index, text in enumerate(row[1:]):
            draw.text((left + (index + 0.5) * cell, middle), text, fill=ink, font=font, anchor="mm")
    return legend


def _percent(share: float) -> str:
    return "<1 %" if 0 < share < 0.005 else f"{share:.0%}".replace("%", " %")
