"""Where a lowered graph is compared with fp32: what its parts give, what is ranked, and what picks tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import onnx_ir as ir

from .cost import part_of_nodes
from .half import HALF_TYPES, MOVES
from .shapes import with_shapes

__all__ = ["RankedPoint", "exposed", "picking_values", "ranked_points", "watched_values"]

_ROUTERS = "routers"  # their results are scores, which are told apart
_PICKERS = {"Gather": 1, "GatherElements": 1, "GatherND": 1, "ScatterElements": 1, "ScatterND": 1, "Where": 0}


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


class RankedPoint(NamedTuple):
    """A TopK or a comparison of floats."""

    node: str
    scores: str
    axis: int
    taken: int | None  # of a TopK
    threshold: float | None  # of a comparison with a number


def ranked_points(model: ir.Model) -> Iterator[RankedPoint]:
    """Every TopK of floats, and every comparison of floats with one number."""
    types = _types(model)
    for node in model.graph:
        scores = node.inputs[0] if node.inputs else None
        if scores is None or types.get(str(scores.name)) != ir.DataType.FLOAT or scores.producer() is None:
            continue
        number = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
        if number is None or number.size != 1:
            continue
        largest, axis = node.attributes.get_int("largest", 1), node.attributes.get_int("axis", -1)
        if node.op_type == "TopK" and largest:
            yield RankedPoint(
                str(node.name), str(scores.name), axis if axis is not None else -1, int(number.numpy().item()), None
            )
        elif node.op_type in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
            yield RankedPoint(str(node.name), str(scores.name), -1, None, float(number.numpy().item()))


def picking_values(model: ir.Model) -> Iterator[str]:
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


def _types(model: ir.Model) -> Mapping[str, ir.DataType]:
    graph = with_shapes(model).graph
    values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    return {str(value.name): value.dtype for value in values if value.dtype is not None}


def exposed(model: ir.Model, names: Sequence[str]) -> bytes:
    """The bytes of a copy with the named values as further outputs, halves as fp32 under the same names."""
    copy = with_shapes(model)
    outputs = {str(value.name) for value in copy.graph.outputs}
    values = {str(value.name): value for node in copy.graph for value in node.outputs}
    for name in names:
        if name in outputs:
            continue
        value = values[name]
        if value.dtype in HALF_TYPES.values():
            value.name = f"{name}_half"
            cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=f"{name}/exposed")
            copy.graph.append(cast)
            value, shape = cast.outputs[0], value.shape
            value.name, value.shape, value.type = name, shape, ir.TensorType(ir.DataType.FLOAT)
        copy.graph.outputs.append(value)
    return ir.to_proto(copy).SerializeToString()
