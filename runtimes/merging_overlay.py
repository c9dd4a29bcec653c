"""The output tokens drawn over the picture: which parts of the surface the model saw as one.

Does not know: sessions, labels, files. It takes a picture and a trace and returns a picture.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from ._drawing import BACKGROUND, LEGEND_PX, MUTED, TEXT, beside, enlarged, font_for, narrowed, relief, stack
from .overlay import draw_depth
from .prediction import MergingTrace, RoutingTrace

__all__ = ["draw_merging", "draw_traces"]

# Hues of one lightness and chroma in Oklab (Ottosson 2020), so that no token looks more important than another. From
# one number to the next they turn by the golden angle: neighbours in the grid come to lie far apart.
_LIGHTNESS, _CHROMA, _GOLDEN_ANGLE_DEG = 0.76, 0.13, 137.508
_TINT = 0.62  # of the colour in a region of several patches, the rest being the picture's own average there
_BORDER = (18, 18, 24)
_DARK, _HATCH = 0.30, (112, 112, 122)  # of what was dropped: share of its light that is left, and the hatching over it


def draw_merging(image: Image.Image, trace: MergingTrace) -> Image.Image:
    """Draw each output token as a region, bordered, and a legend with the tokens left below it.

    A patch that is a token of its own is left as it is. Patches that were merged have the colour of their token
    wherever they lie, and the picture's relief. Dropped patches are dark and hatched.

    Args:
        image: the part of the picture that the graph saw: the whole one, or, where preprocessing crops, what
            `Preprocess.resized` gives.
        trace: of that picture; the grid is stretched over the whole image.

    Returns:
        An RGB picture: the given one above the legend, enlarged by a whole factor if its long side is under 384 pixels.
    """
    picture = enlarged(image)
    width, height = picture.size
    assignment = trace.assignment
    rows, columns = assignment.shape
    tokens = assignment[np.ix_(np.arange(height) * rows // height, np.arange(width) * columns // width)]
    sizes = np.bincount(assignment[assignment >= 0], minlength=1)
    several, dropped = (sizes > 1)[tokens] & (tokens >= 0), tokens < 0

    drawn = np.asarray(picture, np.float32).copy()
    colours = _colours(len(sizes))[tokens] * (np.asarray(relief(picture), np.float32) / 255)
    averages = _averages(drawn, tokens, len(sizes))[tokens]
    drawn[several] = (_TINT * colours + (1 - _TINT) * averages)[several]
    unit = max(1, round(min(width, height) / 400))  # pixels
    down, right = np.indices((height, width), np.int32)
    drawn[dropped] *= _DARK
    drawn[dropped & ((down + right) // unit % 7 == 0)] = _HATCH
    drawn[_borders(tokens, unit)] = _BORDER
    legend = _legend((max(width, LEGEND_PX), height), trace, sizes)
    return stack(Image.fromarray(drawn.round().clip(0, 255).astype(np.uint8)), legend)


def draw_traces(image: Image.Image, routing: RoutingTrace | None, merging: MergingTrace | None) -> Image.Image | None:
    """Draw what there is: tokens, depth, or the two side by side; None where there is neither.

    Args:
        image: as for `draw_merging`.
        routing: of that picture.
        merging: of that picture.
    """
    depth = None if routing is None else draw_depth(image, routing)
    tokens = None if merging is None else draw_merging(image, merging)
    if depth is None or tokens is None:
        return depth or tokens
    return beside(tokens, depth)


def _colours(tokens: int) -> np.ndarray:
    """A colour for each token: tokens x 3 float32, sRGB from 0 to 255."""
    angle = np.deg2rad(_GOLDEN_ANGLE_DEG * np.arange(tokens))
    lab = np.stack([np.full(tokens, _LIGHTNESS), _CHROMA * np.cos(angle), _CHROMA * np.sin(angle)])
    cone = np.array([[1, 0.3963378, 0.2158038], [1, -0.1055613, -0.0638542], [1, -0.0894842, -1.2914855]]) @ lab
    to_linear = np.array(
        [[4.0767417, -3.3077116, 0.2309699], [-1.2684380, 2.6097574, -0.3413194], [-0.0041961, -0.7034186, 1.7076147]]
    )
    linear = (to_linear @ cone**3).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours: np.ndarray = (255 * encoded.T).astype(np.float32)
    return colours


def _averages(picture: np.ndarray, tokens: np.ndarray, count: int) -> np.ndarray:
    """The mean colour under each token: count x 3 float32 from an H x W x 3 picture and H x W tokens."""
    kept = tokens >= 0
    pixels = np.bincount(tokens[kept], minlength=count)
    sums = [np.bincount(tokens[kept], weights=picture[kept, channel], minlength=count) for channel in range(3)]
    averages: np.ndarray = (np.stack(sums, axis=1) / np.maximum(pixels, 1)[:, None]).astype(np.float32)
    return averages


def _borders(tokens: np.ndarray, width: int) -> np.ndarray:
    """Where the pixels of one token meet another's: H x W booleans, lines of `width` pixels."""
    lines = np.zeros(tokens.shape, bool)
    for axis in (0, 1):
        meets = np.diff(tokens, axis=axis) != 0
        for shift in range(width):
            inside = [slice(None), slice(None)]
            inside[axis] = slice(shift, tokens.shape[axis] - 1)
            cut = [slice(None), slice(None)]
            cut[axis] = slice(0, tokens.shape[axis] - 1 - shift)
            lines[tuple(inside)] |= meets[tuple(cut)]
    return lines


def _legend(size: tuple[int, int], trace: MergingTrace, sizes: np.ndarray) -> Image.Image:
    """The strip for a picture of `size`: a bar of the tokens left, and their number."""
    width, height = size
    patches, left = trace.assignment.size, trace.tokens[-1]
    dropped = int((trace.assignment < 0).sum())
    facts = [f"the largest stands for {sizes.max()} patches" if sizes.max() > 1 else "none stands for two patches"]
    facts += [f"{dropped} {'patch' if dropped == 1 else 'patches'} dropped"] * bool(dropped)
    lines = ((f"{left} of {patches} tokens left", TEXT), (", ".join(facts), MUTED))
    base = font_for(width, height)
    bar, line = max(round(base.size / 2), 4), 1.3 * base.size
    legend = Image.new("RGB", (width, round(bar + 2.3 * line)), BACKGROUND)
    draw = ImageDraw.Draw(legend)
    draw.rectangle((0, 0, width - 1, bar - 1), fill=tuple(channel // 3 for channel in MUTED))
    draw.rectangle((0, 0, max(round(width * left / patches), 1) - 1, bar - 1), fill=TEXT)
    for (text, ink), middle in zip(lines, (bar + 0.75 * line, bar + 1.7 * line), strict=True):
        draw.text((width / 2, middle), text, fill=ink, font=narrowed(base, text, 0.96 * width), anchor="mm")
    return legend
