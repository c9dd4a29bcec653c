"""Which rungs the ladder of a step has: those asked for, or the few with the least expected time on given pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgevit.errors import InputError

__all__ = ["best_rungs", "completed", "expected_cost", "interpolated", "smoothed"]

_MOST_RUNGS = 4  # each holds its nodes once more, and on some runtimes a packed copy of its weights


def completed(asked: Sequence[int], tokens: int) -> tuple[int, ...]:
    """The rungs asked for in rising order, each once, with all `tokens` as the last.

    Raises:
        InputError: a rung is below 0 or above `tokens`.
    """
    for rung in asked:
        if not 0 <= rung <= tokens:
            raise InputError(f"a budget of {rung} for {tokens} tokens; give 0 to {tokens}")
    return tuple(sorted({*asked, tokens}))


def interpolated(points: Sequence[tuple[int, float]], tokens: int) -> np.ndarray:
    """A cost for each number of patches from 0 to `tokens`, by straight lines between rising points.

    More patches never cost less: where the points say so, that is noise of their measurement.
    """
    at, cost = zip(*points, strict=True)
    curve: np.ndarray = np.maximum.accumulate(np.interp(np.arange(tokens + 1), at, cost))
    return curve


def smoothed(points: Sequence[tuple[int, float]], flops: Sequence[float]) -> tuple[tuple[int, float], ...]:
    """Measured costs as a fixed part and one proportional to FLOPs, which is what they are but for noise.

    Neighbouring rungs differ by less than a shared machine's times do, so that rungs chosen by the bare measurements
    are chosen by luck. Least squares, neither part below 0; no patches cost nothing.

    Args:
        points: measured costs at rising numbers of patches, the first one 0.
        flops: at the same numbers.
    """
    some = np.array([cost for _, cost in points[1:]])
    work = np.array(flops[1:]) - flops[0]
    spread = work - work.mean()
    slope = max(0.0, float(spread @ some / (spread @ spread))) if spread.any() else 0.0
    fixed = max(0.0, float(some.mean() - slope * work.mean()))
    if fixed == 0.0 and work.any():
        slope = max(0.0, float(work @ some / (work @ work)))
    fitted = [(patches, fixed + slope * amount) for (patches, _), amount in zip(points[1:], work, strict=True)]
    return ((0, 0.0), *((patches, round(float(cost), 6)) for patches, cost in fitted))


def expected_cost(rungs: Sequence[int], counts: np.ndarray, cost: np.ndarray) -> float:
    """The mean cost of runs with these counts, n, each in the smallest rung that holds it."""
    ladder = np.asarray(rungs)
    return float(cost[ladder[np.searchsorted(ladder, counts)]].mean())


def best_rungs(counts: np.ndarray, cost: np.ndarray, most: int = _MOST_RUNGS) -> tuple[int, ...]:
    """At most `most` rungs, the last one all tokens, with the least mean cost over the counts.

    A rung between two counts serves no one better than the lower count does, so only counts that occur are tried; of
    equally good ladders it is one with the fewest rungs.

    Args:
        counts: active patches of each run, n integers from 0 to N.
        cost: of a step with 0 to N patches, N + 1 numbers that never fall.
        most: rungs to have at most, 1 or more.
    """
    tokens = len(cost) - 1
    sizes, runs = np.unique(np.append(counts, tokens), return_counts=True)
    runs[-1] -= 1
    runs_up_to = np.concatenate([[0], np.cumsum(runs)])
    prices = cost[sizes]
    last = len(sizes) - 1
    # least[j]: the least cost of all runs up to size j, with size j as the highest of the rungs so far.
    least = prices * runs_up_to[1:]
    ladders = [[j] for j in range(len(sizes))]
    best, chosen = least[last], ladders[last]
    for _ in range(most - 1):
        new, through = least.copy(), list(ladders)
        for j in range(1, len(sizes)):
            below = least[:j] + prices[j] * (runs_up_to[j + 1] - runs_up_to[1 : j + 1])
            i = int(below.argmin())
            if below[i] < new[j]:
                new[j], through[j] = below[i], [*ladders[i], j]
        least, ladders = new, through
        if least[last] < best:
            best, chosen = least[last], ladders[last]
    return tuple(int(sizes[j]) for j in chosen)
