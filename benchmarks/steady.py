"""When a warm-up is over: when the samples no longer move, not after a number of runs somebody once liked."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["is_steady"]

_HALF = 4
# Below this a remaining drift is of no consequence, and the blocks' interleaving takes it out of every ratio anyway.
_TOLERANCE = 0.02


def is_steady(window_medians: np.ndarray) -> bool:
    """Whether the last eight windows show no change: their two halves differ by under 2 %, or by no more than noise.

    Noise is the spread of windows within the halves, so that a busy machine, whose windows never agree to 2 %, is not
    warmed up for ever, while a slope, which separates the halves further than it spreads them, is.

    Args:
        window_medians: median latency of each window of a few queries, in order, [windows].
    """
    if len(window_medians) < 2 * _HALF:
        return False
    logs = np.log(np.asarray(window_medians[-2 * _HALF :], dtype=np.float64))
    earlier, later = logs[:_HALF], logs[_HALF:]
    change = abs(float(np.median(later) - np.median(earlier)))
    residuals = np.concatenate((earlier - np.median(earlier), later - np.median(later)))
    # Standard error of a difference of two medians of _HALF windows: 1.25 is the median's price against the mean.
    noise = 1.25 * float(residuals.std()) * math.sqrt(2 / _HALF)
    return change <= max(_TOLERANCE, 2 * noise)
