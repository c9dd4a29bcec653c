"""A graph's arithmetic in fp16 or bf16, with casts where a part stays in fp32.

Well-kept converters were tried first, on the graph of a recursive model (tests/unit/export/test_half.py holds the
claims). `onnxruntime.transformers.float16.convert_float_to_float16` knows no bf16. It puts a pair of casts around each
node it is told to keep, so that two in a row are joined through fp16: a score kept in fp32 is rounded before it is
ranked. And it declares the cast of a weight that two kept nodes share twice, which makes the graph invalid. onnx-ir and
onnxscript have no such pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgevit.errors import CheckFailed, InputError

from .shapes import with_shapes

__all__ = ["HALF_TYPES", "MOVES", "Half", "float_names", "lower"]

Half = Literal["fp16", "bf16"]
HALF_TYPES: Mapping[Half, ir.DataType] = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

# They hand values on as they are, so that they compute in no type and go with their neighbours.
MOVES = frozenset({
    "Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Reshape", "ScatterElements",
    "ScatterND", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
# And Q, which takes the type of what it quantizes, and DQ, which takes that of its users: their other side is int8.
_FOLLOWING = MOVES | {"QuantizeLinear", "DequantizeLinear"}
# A constant of up to so many numbers is stored in both types rather than cast at every run.
_SMALL = 64


def lower(model: ir.Model, precision: Half, keep: Collection[str] = ()) -> None:
    """Turn the fp32 operators of a graph into operators of half precision, in place.

    Inputs and outputs of the graph keep their types. A value is cast at most once to each type, next to what makes it;
    a weight is stored once, in the type that most of its uses have. Nodes that only move values around stay in fp32
    between nodes that do. Q/DQ goes along: its scales, and what it gives, become half.

    Args:
        model: a finished fp32 graph, with unique names of nodes.
        precision: `fp16` or `bf16`.
        keep: names of the nodes that stay in fp32.

    Raises:
        InputError: a graph with branches, one that is not fp32, or a name that is none of its nodes.
        CheckFailed: a weight that is to be fp16 does not fit into it.
    """
    floats = float_names(model)
    unknown = set(keep) - {str(node.name) for node in model.graph}
    if unknown:
        raise InputError(f"no node {min(unknown)} to keep in fp32; name nodes of this graph")
    lowered = _lowered(model, floats, frozenset(keep))
    borders = _Borders(model, HALF_TYPES[precision])
    for value in [value for value in model.graph.initializers.values() if value.name in floats]:
        borders.settle_weight(value, lowered)
    for node in list(model.graph):
        if node in lowered:
            _retype(node, HALF_TYPES[precision])
    for value in [value for value in model.graph.inputs if value.name in floats]:
        borders.cast_uses(value, ir.DataType.FLOAT, [use for use in value.uses() if use.node in lowered])
    for node in list(model.graph):
        for value in node.outputs:
            if value.name in floats:
                wrong = [use for use in value.uses() if (use.node in lowered) != (node in lowered)]
                if node in lowered and not value.is_graph_output():
                    value.shape, value.type = None, None
                borders.cast_uses(value, HALF_TYPES[precision] if node in lowered else ir.DataType.FLOAT, wrong)
    for index, value in enumerate(model.graph.outputs):
        producer = value.producer()
        if value.name in floats and producer is not None and producer in lowered:
            borders.cast_output(index)


def float_names(model: ir.Model) -> frozenset[str]:
    """Names of the fp32 values of a graph, weights and constants among them.

    Raises:
        InputError: a graph with branches, or one that holds other floating types.
    """
    if any(isinstance(attribute.value, ir.Graph) for node in model.graph for attribute in node.attributes.values()):
        raise InputError("a lower precision is for graphs without branches; export with another routing than adaptive")
    graph = with_shapes(model).graph
    inner = [value for node in graph for value in node.outputs]
    values = [*graph.inputs, *graph.initializers.values(), *inner]
    for value in values:
        if value.dtype is None and value.name:
            raise InputError(f"{value.name}: its type is not known, so it cannot be lowered; export the graph again")
        if value.dtype is not None and value.dtype.is_floating_point() and value.dtype != ir.DataType.FLOAT:
            raise InputError(f"{value.name} is {value.dtype.name}; wanted a graph in fp32, such as one just exported")
    return frozenset(str(value.name) for value in values if value.dtype == ir.DataType.FLOAT)


def _lowered(model: ir.Model, floats: frozenset[str], keep: frozenset[str]) -> set[ir.Node]:
    """The nodes that become half."""
    touching = [node for node in model.graph if any(v is not None and v.name in floats for v in _values(node))]
    lowered = {node for node in touching if node.name not in keep}
    changed = True
    while changed:
        islanded = {
            node
            for node in lowered
            if node.op_type in _FOLLOWING and not any(other in lowered for other in _neighbours(node, floats))
        }
        lowered -= islanded
        changed = bool(islanded)
    return lowered


def _values(node: ir.Node) -> list[ir.Value | None]:
    return [*node.inputs, *node.outputs]


def _neighbours(node: ir.Node, floats: frozenset[str]) -> list[ir.Node]:
    """The nodes that it has floating values in common with."""
    given = [value.producer() for value in node.inputs if value is not None and value.name in floats]
    taken = [user for value in node.outputs if value.name in floats for user in value.consumers()]
    return [other for other in given if other is not None] + taken


class _Borders:
    """Casts between the two types, each made once."""

    def __init__(self, model: ir.Model, half: ir.DataType) -> None:
        self._graph = model.graph
        self._half = half
        self._names: Counter[str] = Counter()
        self._taken = {str(node.name) for node in model.graph}
        self._values = {str(value.name) for node in model.graph for value in node.outputs}
        self._values |= {*model.graph.initializers, *(str(value.name) for value in model.graph.inputs)}

    def cast_uses(self, value: ir.Value, home: ir.DataType, uses: Collection[tuple[ir.Node, int]]) -> None:
        """Give the uses of a value the other type."""
        if not uses:
            return
        cast = self._cast(value, ir.DataType.FLOAT if home == self._half else self._half, [node for node, _ in uses])
        for node, index in uses:
            node.replace_input_with(index, cast)

    def cast_output(self, index: int) -> None:
        """Give an output of the graph, which became half, its fp32 back under its name."""
        inner = self._graph.outputs[index]
        name, shape = str(inner.name), inner.shape
        inner.name = self._fresh(f"{name}_half")
        inner.shape, inner.type = None, None
        cast = next((u.node.outputs[0] for u in inner.uses() if u.node.op_type == "Cast" and _to(u.node) == 1), None)
        cast = cast or self._cast(inner, ir.DataType.FLOAT, [])
        cast.name, cast.shape, cast.type = name, shape, ir.TensorType(ir.DataType.FLOAT)
        self._graph.outputs[index] = cast

    def settle_weight(self, value: ir.Value, lowered: Collection[ir.Node]) -> None:
        """Store a weight in the type that most of its uses have, a small one in each that it is used in."""
        uses = list(value.uses())
        low = [use for use in uses if use.node in lowered]
        if not low:
            return
        assert value.const_value is not None, "an initializer has a value"
        high = [use for use in uses if use.node not in lowered]
        if high and (value.const_value.size <= _SMALL or len(low) <= len(high)):
            if value.const_value.size > _SMALL:
                self.cast_uses(value, ir.DataType.FLOAT, low)
                return
            copy = ir.Value(name=self._fresh(f"{value.name}_half"), const_value=value.const_value, shape=value.shape)
            self._store_half(copy)
            self._graph.register_initializer(copy)
            for use in low:
                use.node.replace_input_with(use.idx, copy)
            return
        self._store_half(value)
        self.cast_uses(value, self._half, high)

    def _store_half(self, value: ir.Value) -> None:
        assert value.const_value is not None, "an initializer has a value"
        exact = value.const_value.numpy()
        with np.errstate(over="ignore"):  # judged in the next line
            rounded = exact.astype(self._half.numpy())
        if not np.array_equal(np.isfinite(exact), np.isfinite(rounded.astype(np.float32))):
            raise CheckFailed(f"{value.name}: a weight of {np.abs(exact).max():.3g} is no number in {self._half.name}")
        value.const_value = ir.tensor(rounded, dtype=self._half, name=value.name)
        value.type = ir.TensorType(self._half)

    def _cast(self, value: ir.Value, to: ir.DataType, users: Collection[ir.Node]) -> ir.Value:
        producer = value.producer()
        module = (producer or next(iter(users))).name or "graph"
        node = ir.node("Cast", [value], {"to": int(to)}, name=self._node_name(f"{module.rpartition('/')[0]}/Cast"))
        node.outputs[0].name = self._fresh(f"{value.name}_{to.name.lower()}")
        if producer is not None:
            self._graph.insert_after(producer, node)
        else:
            self._graph.insert_before(next(iter(self._graph)), node)
        return node.outputs[0]

    def _node_name(self, wanted: str) -> str:
        while True:
            self._names[wanted] += 1
            count = self._names[wanted]
            name = wanted if count == 1 else f"{wanted}_{count - 1}"
            if name not in self._taken:
                self._taken.add(name)
                return name

    def _fresh(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self._values:
            count += 1
            name = f"{wanted}_{count}"
        self._values.add(name)
        return name


def _to(node: ir.Node) -> int:
    to = node.attributes.get_int("to")
    assert to is not None, "a Cast says what to"
    return to


def _retype(node: ir.Node, half: ir.DataType) -> None:
    """Where a node states fp32 itself, let it state the half type."""
    if node.op_type == "Cast" and _to(node) == ir.DataType.FLOAT:
        node.attributes["to"] = ir.AttrInt64("to", int(half))
    for name in ("value", "dtype"):
        attribute = node.attributes.get(name)
        if attribute is None:
            continue
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == ir.DataType.FLOAT:
            tensor = ir.tensor(attribute.as_tensor().numpy().astype(half.numpy()), dtype=half)
            node.attributes[name] = ir.AttrTensor(name, tensor)
        elif name == "dtype" and attribute.as_int() == ir.DataType.FLOAT:
            node.attributes[name] = ir.AttrInt64(name, int(half))
