"""A copy of a graph that also says how large its values become, and shows a sample of some."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgevit.errors import InputError

from .shapes import with_shapes

__all__ = ["LARGEST", "SMALLEST", "float_values", "refuse_branches", "sample_name", "watched"]

SMALLEST = "edgevit_smallest"
LARGEST = "edgevit_largest"
_SAMPLE = 2**16  # numbers of a value that are shown of each batch
_PREFIX = "edgevit_watch"


def float_values(model: ir.Model) -> tuple[str, ...]:
    """Names of the graph's input and of every float32 value its nodes make, in graph order; empty ones left out.

    Args:
        model: with shapes and types (`with_shapes`).

    Raises:
        InputError: a node has branches, whose values are not those of every run, or a shape is unknown.
    """
    refuse_branches(model)
    names = []
    for name, value in _values(model).items():
        if value.dtype != ir.DataType.FLOAT:
            continue
        if value.shape is None or not value.shape.is_static():
            raise InputError(f"{name}: its shape is not known; export the model with fixed sizes")
        if 0 not in value.shape:
            names.append(name)
    return tuple(names)


def refuse_branches(model: ir.Model) -> None:
    """Let only graphs pass that run all of their nodes every time.

    Raises:
        InputError: a node has a subgraph.
    """
    for node in model.graph:
        for attribute in node.attributes.values():
            if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
                raise InputError(
                    f"{node.name}: an {node.op_type} has branches, and a lower precision is for graphs without; use "
                    "--routing topk or mask, or --precision fp32"
                )


def sample_name(index: int) -> str:
    """Name of the output that shows the `index`-th sampled value."""
    return f"{_PREFIX}_sample_{index}"


def watched(model: ir.Model, names: Sequence[str], sampled: Sequence[str]) -> ir.Model:
    """A copy with the smallest and the largest number of each named value, and samples, as outputs more.

    The extremes are found inside the graph, so that no activation outlives its use and one run a batch is enough,
    however many values are watched. A sample is every n-th number of a value, with n chosen so that it is at most 65536
    of them and no channel is left out; what is shown stays under 256 KiB a sampled value.

    Args:
        model: without branches.
        names: of float32 values; the outputs `SMALLEST` and `LARGEST` have an entry each, in this order.
        sampled: of those, the ones to show, as outputs `sample_name(0)` and so on.
    """
    copy = with_shapes(model)
    values = _values(copy)
    flat = {name: _reshape(copy, values[name]) for name in names}
    for output, operator in ((SMALLEST, "ReduceMin"), (LARGEST, "ReduceMax")):
        ends = [_node(operator, [flat[name]], {"keepdims": 1}) for name in names]
        copy.graph.extend(ends)
        _give(copy, _node("Concat", [node.outputs[0] for node in ends], {"axis": 0}), output, len(names))
    for index, name in enumerate(sampled):
        shape = values[name].shape
        assert shape is not None, "float_values names only what has a shape"
        _sample(copy, flat[name], tuple(int(side) for side in shape), sample_name(index))  # type: ignore[arg-type]
    return copy


def _sample(model: ir.Model, flat: ir.Value, shape: tuple[int, ...], output: str) -> None:
    size, channels = math.prod(shape), shape[-1] if shape else 1
    step = -(-size // _SAMPLE)
    while step > 1 and math.gcd(step, channels) > 1:
        step += 1
    bounds = [_constant(model, number) for number in (0, size, 0, step)]
    _give(model, _node("Slice", [flat, *bounds]), output, -(-size // step))


def _values(model: ir.Model) -> dict[str, ir.Value]:
    values = (*model.graph.inputs, *(value for node in model.graph for value in node.outputs))
    return {value.name: value for value in values if value.name}


def _reshape(model: ir.Model, value: ir.Value) -> ir.Value:
    node = _node("Reshape", [value, _constant(model, -1)])
    model.graph.append(node)
    return node.outputs[0]


def _give(model: ir.Model, node: ir.Node, output: str, size: int) -> None:
    value = node.outputs[0]
    value.name, value.shape, value.type = output, ir.Shape([size]), ir.TensorType(ir.DataType.FLOAT)
    model.graph.append(node)
    model.graph.outputs.append(value)


def _node(operator: str, inputs: Sequence[ir.Value], attributes: Mapping[str, int] | None = None) -> ir.Node:
    return ir.node(operator, inputs, attributes or {})


def _constant(model: ir.Model, number: int) -> ir.Value:
    """A tensor of one int64; one for all uses."""
    name = f"{_PREFIX}_{number}"
    if name not in model.graph.initializers:
        tensor = ir.tensor(np.array([number], np.int64), name=name)
        model.graph.initializers[name] = ir.Value(
            name=name, shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64), const_value=tensor
        )
    return model.graph.initializers[name]
