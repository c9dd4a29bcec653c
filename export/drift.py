"""How far a lower precision has moved from fp32, block by block and step by step.

A block that reads other tokens than in the reference cannot be compared with it, so a run counts for a block only while
every index and every mask that picked tokens up to there is the reference's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from edgevit.runner import Runner

from .cost import part_of_nodes
from .emulate import emulated
from .half import MOVES
from .shapes import with_shapes

__all__ = ["Drift", "Rung", "Score", "drift", "watched_values"]

_JUMP = 4.0  # times the error of the block before
_FLOOR = 2.0**-8  # an error below this is no offence, however fast it grew

_ROUTERS = "routers"  # their results are scores, which are told apart
_PICKERS = {"Gather": 1, "GatherElements": 1, "GatherND": 1, "ScatterElements": 1, "ScatterND": 1, "Where": 0}


@dataclass(frozen=True)
class Rung:
    """The result of one part of the model, in one pass.

    Attributes:
        part: its name: `blocks.3[2]`.
        value: the name of the result in the graph.
        error: Frobenius norm of the difference over that of the reference, over all runs that can be compared; None
            where there is none, or the result is not finite.
        runs: how many could be compared.
        overflowed: whether a number that is finite in the reference is none here.
    """

    part: str
    value: str
    error: float | None
    runs: int
    overflowed: bool


@dataclass(frozen=True)
class Score:
    """What is ranked at one point, over the runs that saw the same tokens up to there.

    Attributes:
        node: the TopK, or the comparison.
        error: largest difference of a score, as a share of the spread of the run's scores.
        margin: smallest distance in the reference between the worst score taken and the best one left, or between a
            score and the number it is compared with, as a share of the spread; None where all are taken.
        flipped: runs that took others.
        runs: how many could be compared.
    """

    node: str
    error: float | None
    margin: float | None
    flipped: int
    runs: int


@dataclass(frozen=True)
class Drift:
    """The whole ladder, in the order of the graph."""

    rungs: tuple[Rung, ...]
    scores: tuple[Score, ...]

    @property
    def first_offender(self) -> Rung | None:
        """The first part that overflows, or whose error jumps; None where it only grows."""
        before = None
        for rung in self.rungs:
            if rung.overflowed:
                return rung
            if rung.error is None:
                continue
            if rung.error > _FLOOR and before is not None and rung.error > _JUMP * before:
                return rung
            before = max(rung.error, np.finfo(np.float32).eps)
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
    pickers = [name for name in _picking(reference) if name in there]
    points = [point for point in _ranked(reference) if point.scores in there]
    wanted = list(dict.fromkeys([value for _, value in rungs] + pickers + [p.scores for p in points]))
    order = {str(value.name): i for i, node in enumerate(reference.graph) for value in node.outputs}
    ends = {str(value.name) for value in reference.graph.outputs}  # the answer counts, whatever tokens it came from
    sums = {value: _Sum() for _, value in rungs}
    marks = {point.node: _Mark() for point in points}
    with open_graph(_exposed(reference, wanted)) as left, open_graph(_exposed(lower, wanted)) as right:
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


def watched_values(model: ir.Model, only: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """Parts of the model and the values that are their results, in the order of the graph.

    Args:
        model: a finished graph.
        only: the values to take; by default the last one that each part computes.
    """
    nodes = list(model.graph)
    parts = part_of_nodes(nodes)
    types = _types(model)
    last: dict[str, tuple[int, str]] = {}
    chosen = []
    for index, (node, part) in enumerate(zip(nodes, parts, strict=True)):
        for value in node.outputs:
            name = str(value.name)
            if types.get(name) != ir.DataType.FLOAT:
                continue
            if only is not None and name in only:
                chosen.append((part, name))
            read = value.uses() or value.is_graph_output()
            if node.op_type not in MOVES and read and part != _ROUTERS:
                last[part] = index, name
    return (
        chosen if only is not None else [(part, name) for part, (_, name) in sorted(last.items(), key=lambda i: i[1])]
    )


class _Point(NamedTuple):
    """A TopK or a comparison of floats."""

    node: str
    scores: str
    axis: int
    taken: int | None  # of a TopK
    threshold: float | None  # of a comparison with a number


class _Sum:
    def __init__(self) -> None:
        self._error, self._norm, self._runs, self._overflowed = 0.0, 0.0, 0, False

    def add(self, exact: np.ndarray, rounded: np.ndarray) -> None:
        self._runs += 1
        if not np.isfinite(rounded[np.isfinite(exact)]).all():
            self._overflowed = True
            return
        self._error += float(np.square(rounded.astype(np.float64) - exact).sum())
        self._norm += float(np.square(exact.astype(np.float64)).sum())

    def rung(self, part: str, value: str) -> Rung:
        known = self._runs > 0 and not self._overflowed
        error = math.sqrt(self._error / self._norm) if known and self._norm > 0 else (0.0 if known else None)
        return Rung(part, value, error, self._runs, self._overflowed)


class _Mark:
    def __init__(self) -> None:
        self._error, self._margin, self._flipped, self._runs = 0.0, math.inf, 0, 0

    def add(self, point: _Point, exact: np.ndarray, rounded: np.ndarray) -> None:
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


def _distance(point: _Point, scores: np.ndarray) -> float:
    """The closest call among the scores of one run."""
    if point.threshold is not None:
        return float(np.abs(scores - point.threshold).min())
    k = point.taken or 0
    if k >= scores.shape[point.axis]:
        return math.inf
    ordered = -np.sort(-scores.astype(np.float64), axis=point.axis)
    return float((ordered.take(k - 1, point.axis) - ordered.take(k, point.axis)).min())


def _taken(point: _Point, scores: np.ndarray) -> bytes:
    if point.threshold is not None:
        return (scores > point.threshold).tobytes()
    order = np.argsort(-scores, axis=point.axis, kind="stable")
    return np.sort(order.take(range(point.taken or 0), point.axis), axis=point.axis).tobytes()


def _ranked(model: ir.Model) -> Iterator[_Point]:
    types = _types(model)
    for node in model.graph:
        scores = node.inputs[0] if node.inputs else None
        if scores is None or types.get(str(scores.name)) != ir.DataType.FLOAT or scores.producer() is None:
            continue
        number = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
        if number is None or number.size != 1:
            continue
        if node.op_type == "TopK" and node.attributes.get_int("largest", 1):
            axis = node.attributes.get_int("axis", -1)
            yield _Point(
                str(node.name), str(scores.name), axis if axis is not None else -1, int(number.numpy().item()), None
            )
        elif node.op_type in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
            yield _Point(str(node.name), str(scores.name), -1, None, float(number.numpy().item()))


def _picking(model: ir.Model) -> Iterator[str]:
    """Names of the indices and masks, computed from the image, by which numbers are picked."""
    types = _types(model)
    for node in model.graph:
        index = _PICKERS.get(node.op_type)
        value = node.inputs[index] if index is not None else None
        if (
            value is not None
            and value.producer() is not None
            and types.get(str(node.outputs[0].name)) == ir.DataType.FLOAT
        ):
            yield str(value.name)


def _differ(exact: np.ndarray, rounded: np.ndarray) -> bool:
    """Whether others were picked: the same in another order are the same, as what goes with them is picked alike."""
    if exact.dtype != bool and exact.ndim:
        exact, rounded = np.sort(exact, axis=-1), np.sort(rounded, axis=-1)
    return not np.array_equal(exact, rounded)


def _types(model: ir.Model) -> Mapping[str, ir.DataType]:
    graph = with_shapes(model).graph
    values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    return {str(value.name): value.dtype for value in values if value.dtype is not None}


def _exposed(model: ir.Model, names: Sequence[str]) -> bytes:
    """The bytes of a copy with the named values as further outputs."""
    copy = with_shapes(model)
    outputs = {str(value.name) for value in copy.graph.outputs}
    values = {str(value.name): value for node in copy.graph for value in node.outputs}
    copy.graph.outputs.extend(values[name] for name in names if name not in outputs)
    return ir.to_proto(copy).SerializeToString()
