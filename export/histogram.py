"""How the magnitudes of a value are spread: a histogram of fixed size that takes any range in one pass."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["BINS", "Histogram"]

BINS = 2048
_SMALLEST_EXPONENT = -100
_LEVELS = 128  # magnitudes a symmetric int8 can tell apart


class Histogram:
    """Counts of |x| in `BINS` equal bins from 0 to a power of two.

    When a larger number comes, neighbouring bins are merged until it fits. Since every edge of a wider bin is an edge
    of the narrower ones, nothing moves: the counts are those of the final bins from the start, in whatever order the
    numbers came, and at least half of the bins lie below the largest number.

    Args:
        counts: of an earlier histogram, `BINS` integers; none to begin.
        exponent: the end of the range is two to this power.
    """

    def __init__(self, counts: np.ndarray | None = None, exponent: int = _SMALLEST_EXPONENT) -> None:
        self._counts = np.zeros(BINS, np.int64) if counts is None else counts.astype(np.int64)
        self._exponent = exponent

    @property
    def counts(self) -> np.ndarray:
        """Numbers in each bin: `BINS` int64."""
        return self._counts

    @property
    def exponent(self) -> int:
        """The range ends at two to this power."""
        return self._exponent

    @property
    def width(self) -> float:
        """Of a bin."""
        return math.ldexp(1 / BINS, self._exponent)

    def add(self, values: np.ndarray) -> None:
        """Count every finite number of an array of any shape."""
        magnitudes = np.abs(values.ravel().astype(np.float32, copy=False))
        finite = np.isfinite(magnitudes)
        if not finite.all():
            magnitudes = magnitudes[finite]
        if magnitudes.size == 0:
            return
        largest = float(magnitudes.max())
        if largest > 0:
            self._widen(math.frexp(largest)[1])
        # Times a power of two, so exact: a number falls into the same bin on every machine.
        places = (magnitudes * np.float32(1 / self.width)).astype(np.int64)
        self._counts += np.bincount(places, minlength=BINS)

    def percentile(self, percent: float) -> float:
        """The least bin edge that `percent` of the magnitudes do not exceed; 0.0 of nothing.

        Raises:
            ValueError: not above 0 and at most 100.
        """
        if not 0 < percent <= 100:
            raise ValueError(f"got percentile {percent}, wanted above 0 and at most 100")
        below = np.cumsum(self._counts)
        if below[-1] == 0:
            return 0.0
        return float(np.searchsorted(below, below[-1] * (percent / 100)) + 1) * self.width

    def entropy(self) -> float:
        """The clip that keeps most of the information in 8 bits: least Kullback-Leibler divergence.

        After Migacz, 8-bit inference with TensorRT, GTC 2017: the clipped distribution, what lies beyond put into the
        last bin, against the same in 128 levels, each spread over the bins that are not empty. 0.0 of nothing.
        """
        used = int(np.flatnonzero(self._counts).max(initial=-1)) + 1
        if used <= _LEVELS:
            return used * self.width
        divergences = [self._divergence(bins) for bins in range(_LEVELS, used + 1)]
        return (_LEVELS + int(np.argmin(divergences))) * self.width

    def least_error(self) -> float:
        """The clip of least mean squared error in symmetric int8: rounding inside, clipping beyond. 0.0 of nothing."""
        used = int(np.flatnonzero(self._counts).max(initial=-1)) + 1
        if used <= 1:
            return used * self.width
        counts, middle = self._counts[:used].astype(float), np.arange(used) + 0.5
        clips = np.arange(1, used + 1)  # in bins
        # Sums of n, x and x squared beyond each clip, from the end; (x - c) squared is x2 - 2 c x + c2 n.
        beyond = [np.append(np.cumsum((counts * middle**power)[::-1])[::-1][1:], 0.0) for power in range(3)]
        clipping = beyond[2] - 2 * clips * beyond[1] + clips**2 * beyond[0]
        rounding = (counts.sum() - beyond[0]) * (clips / (_LEVELS - 1)) ** 2 / 12
        return float(clips[np.argmin(clipping + rounding)]) * self.width

    def _widen(self, exponent: int) -> None:
        more = exponent - self._exponent
        if more <= 0:
            return
        self._exponent = exponent
        merged = np.zeros(BINS, np.int64)
        factor = 1 << min(more, BINS.bit_length() - 1)
        merged[: BINS // factor] = self._counts.reshape(-1, factor).sum(axis=1)
        self._counts = merged

    def _divergence(self, bins: int) -> float:
        inside = self._counts[:bins].astype(float)
        clipped = inside.copy()
        clipped[-1] += self._counts[bins:].sum()
        starts = np.arange(_LEVELS) * bins // _LEVELS
        lengths = np.diff(starts, append=bins)
        filled = inside > 0
        level = np.add.reduceat(inside, starts) / np.maximum(np.add.reduceat(filled, starts, dtype=float), 1)
        coarse = np.repeat(level, lengths) * filled
        # A clip whose last bin holds only what lay beyond it has no counterpart there.
        if np.any((clipped > 0) & (coarse == 0)):
            coarse[-1] = max(coarse[-1], 1e-4)
        here = clipped > 0
        share, other = clipped[here] / clipped.sum(), coarse[here] / coarse.sum()
        return float((share * np.log(share / other)).sum())
