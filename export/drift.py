"""How far a lower precision has moved from fp32, block by block and step by step.

A block that reads other tokens than in the reference cannot be compared with it, so a run counts for a block only while
every index and every mask that picked tokens up to there is the reference's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from edgevit.precision_record import Rung, Score
from edgevit.runner import Runner

from .emulate import emulated
from .watch_points import RankedPoint, exposed, picking_values, ranked_points, watched_values

__all__ = ["Deviation", "Drift", "drift"]

_JUMP = 4.0  # times the error of the block before
_FLOOR = 2.0**-8  # an error below this is no offence, however fast it grew


@dataclass(frozen=True)
class Drift:
    """The whole ladder, in the order of the graph."""

    rungs: tuple[Rung, ...]
    scores: tuple[Score, ...]

    @property
    def first_offender(self) -> Rung | None:
        """The first part that overflows, or whose error jumps; None where it only grows."""
        before: float | None = None
        for rung in self.rungs:
            if rung.overflowed:
                return rung
            if rung.error is None:
                continue
            if rung.error > _FLOOR and before is not None and rung.error > _JUMP * before:
                return rung
            before = max(rung.error, float(np.finfo(np.float32).eps))
        return None

    @property
    def steepest(self) -> Rung | None:
        """The part that adds the most to the error."""
        known = [rung for rung in self.rungs if rung.error is not None]
        errors = [0.0, *(rung.error or 0.0 for rung in known)]
        grown = [after - before for before, after in pairwise(errors)]
        return known[int(np.argmax(grown))] if known else None


def drift(
    reference: ir.Model,
    lowered: ir.Model,
    batches: Iterable[np.ndarray],
    open_graph: Callable[[bytes], Runner],
    *,
    only: Sequence[str] | None = None,
) -> Drift:
    """Run both graphs and compare what each part of the model gives.

    Args:
        reference: the finished fp32 graph.
        lowered: the same in a lower precision; it is emulated, values are matched by name.
        batches: inputs, each of the graph's batch size.
        open_graph: makes the runners.
        only: names of values to compare in place of the results of the parts.

    Raises:
        InputError: a graph with branches.
    """
    lower = emulated(lowered)
    there = {str(value.name) for node in lower.graph for value in node.outputs}
    rungs = [(part, value) for part, value in watched_values(reference, only) if value in there]
    pickers = [name for name in picking_values(reference) if name in there]
    points = [point for point in ranked_points(reference) if point.scores in there]
    wanted = list(dict.fromkeys([value for _, value in rungs] + pickers + [p.scores for p in points]))
    order = {str(value.name): i for i, node in enumerate(reference.graph) for value in node.outputs}
    ends = {str(value.name) for value in reference.graph.outputs}  # the answer counts, whatever tokens it came from
    sums = {value: Deviation() for _, value in rungs}
    marks = {point.node: _Mark() for point in points}
    with open_graph(exposed(reference, wanted)) as left, open_graph(exposed(lower, wanted)) as right:
        for batch in batches:
            exact, rounded = left(batch), right(batch)
            until = min((order[name] for name in pickers if _differ(exact[name], rounded[name])), default=math.inf)
            for _, value in rungs:
                if order[value] < until or value in ends:
                    sums[value].add(exact[value], rounded[value])
            for point in points:
                if order[point.scores] < until:
                    marks[point.node].add(point, exact[point.scores], rounded[point.scores])
    return Drift(
        tuple(sums[value].rung(part, value) for part, value in rungs),
        tuple(marks[point.node].score(point.node) for point in points),
    )


class Deviation:
    """The error of one value, summed over runs."""

    def __init__(self) -> None:
        self._error, self._norm, self._runs, self._overflowed = 0.0, 0.0, 0, False

    def add(self, exact: np.ndarray, rounded: np.ndarray) -> None:
        """One run more: the value in fp32, and in the lower precision."""
        self._runs += 1
        if not np.isfinite(rounded[np.isfinite(exact)]).all():
            self._overflowed = True
            return
        self._error += float(np.square(rounded.astype(np.float64) - exact).sum())
        self._norm += float(np.square(exact.astype(np.float64)).sum())

    def rung(self, part: str, value: str) -> Rung:
        """What the runs came to."""
        known = self._runs > 0 and not self._overflowed
        error = math.sqrt(self._error / self._norm) if known and self._norm > 0 else (0.0 if known else None)
        return Rung(part, value, error, self._runs, self._overflowed)


class _Mark:
    def __init__(self) -> None:
        self._error, self._margin, self._flipped, self._runs = 0.0, math.inf, 0, 0

    def add(self, point: RankedPoint, exact: np.ndarray, rounded: np.ndarray) -> None:
        self._runs += 1
        spread = max(float(np.ptp(exact[np.abs(exact) < 1e30])), 1e-30) if (np.abs(exact) < 1e30).any() else 1.0
        with np.errstate(invalid="ignore"):
            difference = np.abs(rounded.astype(np.float64) - exact).max()
        self._error = max(self._error, float(difference) / spread if np.isfinite(difference) else math.inf)
        self._margin = min(self._margin, _distance(point, exact) / spread)
        self._flipped += _taken(point, exact) != _taken(point, rounded)

    def score(self, node: str) -> Score:
        known = self._runs > 0 and math.isfinite(self._error)
        margin = self._margin if math.isfinite(self._margin) else None
        return Score(node, self._error if known else None, margin, self._flipped, self._runs)


def _distance(point: RankedPoint, scores: np.ndarray) -> float:
    """The closest call among the scores of one run."""
    if point.threshold is not None:
        return float(np.abs(scores - point.threshold).min())
    k = point.taken or 0
    if k >= scores.shape[point.axis]:
        return math.inf
    ordered = -np.sort(-scores.astype(np.float64), axis=point.axis)
    return float((ordered.take(k - 1, point.axis) - ordered.take(k, point.axis)).min())


def _taken(point: RankedPoint, scores: np.ndarray) -> bytes:
    if point.threshold is not None:
        return (scores > point.threshold).tobytes()
    order = np.argsort(-scores, axis=point.axis, kind="stable")
    return np.sort(order.take(range(point.taken or 0), point.axis), axis=point.axis).tobytes()


def _differ(exact: np.ndarray, rounded: np.ndarray) -> bool:
    """Whether others were picked: the same in another order are the same, as what goes with them is picked alike."""
    if exact.dtype != bool and exact.ndim:
        exact, rounded = np.sort(exact, axis=-1), np.sort(rounded, axis=-1)
    return not np.array_equal(exact, rounded)
