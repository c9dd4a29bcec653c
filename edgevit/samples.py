"""Generated pictures of hot-rolled steel strip, for tests, golden inputs and the demo: edgevit ships no photograph.

The rolling direction is vertical. A picture depends on its kind, seed and size alone, on every platform and Python:
only PCG64's raw bits (which numpy keeps for good) and additions, multiplications, divisions and comparisons make it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from edgevit.errors import InputError

__all__ = ["SAMPLE_KINDS", "surface"]

_FRAME = 128.0  # the shorter side of a picture in the unit in which the defects below are drawn


def surface(kind: str, seed: int, size: tuple[int, int] = (128, 128)) -> Image.Image:
    """Draw a surface.

    Args:
        kind: one of `SAMPLE_KINDS`: `plain`, or a defect under its name in the X-SDD set.
        seed: another one gives another picture of the same kind; 0 or more.
        size: width and height, pixels, 16 or more.

    Returns:
        The picture: RGB of equal channels, as the cameras of strip mills are monochrome.

    Raises:
        InputError: there is no such kind, or the seed or the size is out of range.
    """
    if kind not in _DEFECTS:
        raise InputError(f"got sample kind '{kind}', wanted one of: {', '.join(SAMPLE_KINDS)}")
    if seed < 0 or min(size) < 16:
        raise InputError(f"got seed {seed} and size {size[0]} x {size[1]}, wanted 0 or more and at least 16 x 16")
    canvas = _Canvas(SAMPLE_KINDS.index(kind), seed, size)
    _DEFECTS[kind](canvas)
    grey = (np.clip(canvas.grey, 0, 255) + 0.5).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


class _Canvas:
    """A plain steel surface to draw on, with its coordinates and its dice.

    Attributes:
        grey: the picture so far, H x W, 0..255.
        y: row coordinate of each pixel, H x 1, in 128ths of the shorter side.
        x: column coordinate of each pixel, 1 x W, the same.
        rows: extent of y.
        columns: extent of x.
    """

    def __init__(self, kind: int, seed: int, size: tuple[int, int]) -> None:
        self._bits = np.random.PCG64([kind, seed])
        width, height = size
        unit = _FRAME / min(size)
        self._pixels = 1 / unit
        self.rows, self.columns = height * unit, width * unit
        self.y = (np.arange(height) * unit)[:, None]
        self.x = (np.arange(width) * unit)[None, :]
        shading = self.uniform(2, 7) * self.noise(100, 80) + 2 * self.noise(60, 5)
        grain = 1.2 * self.grains(3, 1.5) + 4 * self.speckle() + 1.2 * self.grains(8, 4)
        self.grey = self.uniform(126, 134) + shading + grain

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(self._unit(1)[0])

    def whole(self, low: int, high: int) -> int:
        """One of low..high, both included."""
        return low + int((high - low + 1) * self._unit(1)[0])

    def speckle(self) -> np.ndarray:
        """Independent pixels, H x W, -1..1, the ends rarer than the middle."""
        count = self.y.size * self.x.size
        pixels: np.ndarray = self._unit(count) - self._unit(count)
        return pixels.reshape(self.y.size, self.x.size)

    def noise(self, tall: float, wide: float) -> np.ndarray:
        """Smooth noise, H x W, -1..1, whose bumps are about `tall` by `wide`."""
        rows, row, down = _lattice(self.y[:, 0], tall, self.rows)
        columns, column, across = _lattice(self.x[0], wide, self.columns)
        knots = 2 * self._unit(rows * columns).reshape(rows, columns) - 1
        lines: np.ndarray = knots[row] + down[:, None] * (knots[row + 1] - knots[row])
        smooth: np.ndarray = lines[:, column] + across * (lines[:, column + 1] - lines[:, column])
        return smooth

    def grains(self, tall: float, wide: float) -> np.ndarray:
        """Noise, H x W, of mean 0 and standard deviation 1, in round grains of about `tall` by `wide`."""
        field, variance = self.speckle(), 1 / 6  # the difference of two uniforms has a variance of 1/6
        for axis, extent in enumerate((tall, wide)):
            reach = max(1, int(extent * self._pixels + 0.5))
            for _ in range(2):
                field = sum((np.roll(field, k, axis) for k in range(reach)), np.zeros_like(field))
            variance *= (2 * reach**3 + reach) / 3  # of two running sums, one after the other
        grains: np.ndarray = field / math.sqrt(variance)
        return grains

    def _unit(self, count: int) -> np.ndarray:
        """Uniform numbers of 53 bits, `count`, from 0 up to and without 1."""
        bits: np.ndarray = self._bits.random_raw(count)
        fractions: np.ndarray = (bits >> np.uint64(11)) * 2.0**-53
        return fractions


def _lattice(at: np.ndarray, cell: float, extent: float) -> tuple[int, np.ndarray, np.ndarray]:
    """Knots needed, index of the knot before each coordinate, and the eased way to the next one."""
    knot = (at / cell).astype(np.int64)
    way = at / cell - knot
    return int(extent / cell) + 2, knot, way * way * (3 - 2 * way)


def _bump(distance: np.ndarray) -> np.ndarray:
    """1 at distance 0, falling smoothly to 0 at distance 1 and beyond."""
    inside: np.ndarray = np.clip(1 - distance * distance, 0, 1)
    return inside**2


def _edge(height: np.ndarray, sharpness: float = 1.0) -> np.ndarray:
    """0 below zero, 1 above, with a ramp of 1 / sharpness between."""
    return np.clip(height * sharpness + 0.5, 0, 1)


def _plain(canvas: _Canvas) -> None:
    """Nothing but the surface."""


def _surface_scratch(canvas: _Canvas) -> None:
    """Fine dark lines along the strip, a faint ridge of bright metal beside them."""
    for _ in range(canvas.whole(1, 3)):
        across = canvas.x - canvas.uniform(0.1, 0.9) * canvas.columns - canvas.uniform(-0.03, 0.03) * canvas.y
        across = across + 0.6 * canvas.noise(30, 200)
        start = canvas.uniform(-0.6, 0.5) * canvas.rows
        end = start + canvas.uniform(0.6, 1.4) * canvas.rows
        along = _edge(np.minimum(canvas.y - start, end - canvas.y), 0.08)
        depth = canvas.uniform(38, 62) * (1 + 0.3 * canvas.noise(6, 200))
        canvas.grey += along * (12 * _bump((across - 2.2) / 1.6) - depth * _bump(across / canvas.uniform(1.6, 2.2)))


def _finishing_roll_printing(canvas: _Canvas) -> None:
    """Slanted, embossed marks that the finishing roll repeats: a bright rim over a shallow shadow."""
    for _ in range(canvas.whole(1, 2)):
        slope = canvas.uniform(-0.25, 0.25)
        middle, reach = canvas.uniform(0.2, 0.8) * canvas.columns, canvas.uniform(25, 80)
        across = canvas.y - canvas.uniform(0.15, 0.85) * canvas.rows - slope * (canvas.x - middle)
        across = across + 1.5 * canvas.noise(200, 25)
        along = _bump((canvas.x - middle) / reach)
        shadow = _edge(across, 0.6) * _edge(canvas.uniform(4, 11) * along - across, 0.4)
        rim = canvas.uniform(18, 60) * _bump(across / 1.7) * (1 + 0.5 * canvas.noise(200, 4))
        canvas.grey += along * (rim - canvas.uniform(9, 18) * shadow - 12 * _bump((across + 2.5) / 2))


def _iron_sheet_ash(canvas: _Canvas) -> None:
    """A cluster of dark ash with a dusting around it and a pale plume downstream."""
    top, middle = canvas.uniform(0.2, 0.7) * canvas.rows, canvas.uniform(0.25, 0.75) * canvas.columns
    down, aside = canvas.y - top, canvas.x - middle
    plume = _bump(aside / (14 + 0.35 * np.maximum(down, 0))) * _edge(down, 0.08)
    canvas.grey += canvas.uniform(8, 26) * plume * (1 + 0.4 * canvas.noise(20, 6))
    ragged = 0.12 * canvas.grains(4, 5) + 0.08 * canvas.grains(2, 2)
    ash = np.zeros_like(canvas.grey)
    for _ in range(canvas.whole(2, 5)):
        shift, lower = canvas.uniform(-9, 9), canvas.uniform(-4, 8)
        tall, wide = canvas.uniform(3, 7), canvas.uniform(5, 13)
        ash = np.maximum(ash, _bump(np.sqrt(((down - lower) / tall) ** 2 + ((aside - shift) / wide) ** 2) + ragged))
    around = _bump(np.sqrt(((down - 12) / 40) ** 2 + (aside / 40) ** 2))
    dust = _edge(canvas.grains(2.5, 2.5) - 4.2 + 2.6 * around, 2)
    canvas.grey -= (70 + 8 * canvas.grains(2, 3)) * _edge(ash - 0.25, 3) + 45 * dust + 4 * around * canvas.grains(9, 3)
    canvas.grey += canvas.uniform(10, 45) * _bump((down + 4 + 0.04 * aside * aside) / 2.2) * _bump(aside / 12)


def _oxide_scale_of_plate_system(canvas: _Canvas) -> None:
    """A spindle of broken, speckled scale on a mottled surface."""
    canvas.grey += 12 * _edge(canvas.grains(8, 8) + 0.5 * canvas.grains(3, 3) - 1.2, 2) + 5 * canvas.speckle()
    top, length = canvas.uniform(0.0, 0.5) * canvas.rows, canvas.uniform(60, 120)
    middle = canvas.uniform(0.25, 0.75) * canvas.columns
    for shift, wide in ((0.0, canvas.uniform(7, 13)), (canvas.uniform(12, 20), canvas.uniform(0, 7))):
        way = np.clip((canvas.y - top - shift) / length, 0, 1)
        aside = np.abs(canvas.x - middle - shift)
        half = wide * 4 * way * (1 - way)
        inside = _edge(half - aside - 1 + 0.15 * half * canvas.grains(7, 3), 0.6)
        broken = _edge(canvas.grains(3, 2.5) - 0.1, 2)
        pale = _edge(half * 0.45 - aside + 1.6 * canvas.grains(9, 5) - 3, 0.7) * inside
        canvas.grey += inside * (20 * pale - (1 - pale) * (18 + 48 * broken) + 8 * canvas.speckle())


def _oxide_scale_of_temperature_system(canvas: _Canvas) -> None:
    """Scattered pits, dark with a bright lip, denser in places, some drawn out along the strip."""
    pits = canvas.grains(3, 2.5) + 0.7 * canvas.noise(35, 18) - canvas.uniform(1.9, 2.5)
    lip = np.roll(pits, (1, 2), axis=(0, 1))
    flakes = canvas.grains(14, 4) + 0.6 * canvas.grains(4, 2) - canvas.uniform(2.0, 3.4)
    canvas.grey += 24 * _edge(flakes, 2) + 18 * _edge(lip, 1.5) - 60 * _edge(pits, 1.5)


def _red_iron(canvas: _Canvas) -> None:
    """Ragged dark patches of iron oxide, elongated along the strip and sharply bounded."""
    bare = canvas.uniform(0.6, 3.0)
    column = canvas.uniform(0.2, 0.8) * canvas.columns
    height = canvas.grains(18, 6) + 0.55 * canvas.grains(8, 3) + 0.35 * canvas.grains(3, 2)
    height = height - bare + canvas.uniform(0.5, 2.5) * _bump((canvas.x - column) / canvas.uniform(20, 45))
    dark = canvas.uniform(60, 76) + canvas.grains(6, 3) + 4 * canvas.speckle()
    canvas.grey += 2 * canvas.grains(3, 2) + _edge(height, 4) * (dark - canvas.grey)


def _slag_inclusion(canvas: _Canvas) -> None:
    """Slag rolled out into a torn band of dark streaks and glinting metal, now and then with a crater."""
    middle, half = canvas.uniform(0.25, 0.75) * canvas.columns, canvas.uniform(3, 14)
    start = canvas.uniform(-0.5, 0.4) * canvas.rows
    along = _edge(np.minimum(canvas.y - start, start + canvas.uniform(0.7, 1.5) * canvas.rows - canvas.y), 0.03)
    side = np.abs(canvas.x - middle + 2 * canvas.noise(25, 200))
    torn = _edge(half * along - side + 0.22 * half * canvas.grains(2, 7) + 0.6 * canvas.grains(9, 3) - 1, 0.7)
    canvas.grey -= along * 12 * _bump(side / (half + 9))
    streaks = 12 * canvas.grains(12, 1.5) + 9 * canvas.grains(3, 2)
    glint = _edge(canvas.grains(4, 1.5) + 0.5 * canvas.grains(2, 2) - 2.2, 2)
    canvas.grey += torn * (streaks - 30 + 100 * glint)
    if canvas.whole(0, 1):
        down, aside = canvas.y - canvas.uniform(0.25, 0.75) * canvas.rows, canvas.x - middle
        ring = np.sqrt((down / canvas.uniform(6, 14)) ** 2 + (aside / canvas.uniform(8, 18)) ** 2)
        ring = ring + 0.12 * canvas.grains(6, 6) + 0.06 * canvas.grains(2, 3)
        floor = 0.6 * canvas.grey + 6 * canvas.grains(2, 6) - 5
        canvas.grey += canvas.uniform(5, 30) * _bump((ring - 1.3) / 0.4) + _edge(1 - ring, 3) * (floor - canvas.grey)


_DEFECTS: dict[str, Callable[[_Canvas], None]] = {
    "plain": _plain,
    "finishing_roll_printing": _finishing_roll_printing,
    "iron_sheet_ash": _iron_sheet_ash,
    "oxide_scale_of_plate_system": _oxide_scale_of_plate_system,
    "oxide_scale_of_temperature_system": _oxide_scale_of_temperature_system,
    "red_iron": _red_iron,
    "slag_inclusion": _slag_inclusion,
    "surface_scratch": _surface_scratch,
}
SAMPLE_KINDS: tuple[str, ...] = tuple(_DEFECTS)
