"""Copies of a graph that also say how large its values become, or what they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgevit.errors import InputError

from .shapes import with_shapes

__all__ = ["LARGEST", "SMALLEST", "float_values", "with_extremes"]

SMALLEST = "edgevit_smallest"
LARGEST = "edgevit_largest"


def float_values(model: ir.Model) -> tuple[str, ...]:
    """Names of the graph's input and of every float32 value its nodes make, in graph order.

    Args:
        model: with shapes and types (`with_shapes`).

    Raises:
        InputError: a node has a subgraph, whose values are not those of one run, or a value's shape is unknown.
    """
    names = []
    for node in model.graph:
        if any(attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in _attributes(node)):
            raise InputError(
                f"{node.name}: an {node.op_type} has branches, whose ranges cannot be measured; export with --routing "
                "topk or mask, or at fp32"
            )
    for value in (*model.graph.inputs, *(value for node in model.graph for value in node.outputs)):
        if not value.name or value.dtype != ir.DataType.FLOAT:
            continue
        if value.shape is None or not value.shape.is_static():
            raise InputError(f"{value.name}: its shape is not known; export the model with fixed sizes")
        if 0 not in value.shape:
            names.append(value.name)
    return tuple(names)


def with_extremes(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """A copy that gives the smallest and the largest number in each of the named values as two outputs more.

    They are found inside the graph, so that no activation has to outlive its use and one run a batch is enough.

    Args:
        model: without branches.
        names: of float32 values that are not empty; `SMALLEST` and `LARGEST` have an entry each, in this order.
    """
    copy = with_shapes(model)
    values = {value.name: value for value in _values(copy)}
    flat_shape = ir.Value(
        name="edgevit_flat", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64),
        const_value=ir.tensor(np.array([-1], np.int64), name="edgevit_flat"),
    )  # fmt: skip
    copy.graph.initializers[flat_shape.name or ""] = flat_shape
    flat = [ir.node("Reshape", [values[name], flat_shape]) for name in names]
    copy.graph.extend(flat)
    for output, operator in ((SMALLEST, "ReduceMin"), (LARGEST, "ReduceMax")):
        ends = [ir.node(operator, [node.outputs[0]], {"keepdims": 1}) for node in flat]
        joined = ir.node("Concat", [node.outputs[0] for node in ends], {"axis": 0})
        joined.outputs[0].name = output
        joined.outputs[0].shape = ir.Shape([len(names)])
        joined.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        copy.graph.extend([*ends, joined])
        copy.graph.outputs.append(joined.outputs[0])
    return copy


def _values(model: ir.Model) -> tuple[ir.Value, ...]:
    return (*model.graph.inputs, *(value for node in model.graph for value in node.outputs))


def _attributes(node: ir.Node) -> tuple[ir.Attr, ...]:
    return tuple(attribute for attribute in node.attributes.values() if isinstance(attribute, ir.Attr))
