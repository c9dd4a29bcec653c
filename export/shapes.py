"""Shapes of every value of a graph, which a finished graph does not carry."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

__all__ = ["Shape", "known_shapes", "with_shapes"]

Shape = tuple[int, ...]


def with_shapes(model: ir.Model) -> ir.Model:
    """A copy of the model in which ONNX's shape inference has written what it knows."""
    return common.ShapeInferencePass()(ir.from_proto(ir.to_proto(model))).model


def known_shapes(model: ir.Model) -> dict[str, Shape]:
    """The static shapes in a graph and its branches, by the names of the values; the model stays without them."""
    shaped = with_shapes(model)
    graphs = list(shaped.graphs())
    values = [value for graph in graphs for value in (*graph.inputs, *graph.initializers.values())]
    values += [value for graph in graphs for node in graph for value in node.outputs]
    return {
        str(value.name): tuple(int(side) for side in value.shape)  # type: ignore[arg-type]  # all are numbers
        for value in values
        if value.shape is not None and value.shape.is_static()
    }
