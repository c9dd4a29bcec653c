"""Write the nodes and the stored numbers of int8 linears into a graph."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir

from .linears import Linear
from .rung_names import rung_suffix

__all__ = ["Activations", "Int8Writer", "activation_scale", "rounded_weight"]

Activations = Literal["int8", "uint8"]
_Here = tuple[ir.Graph, ir.Value]  # a value as it is seen in one graph or branch
_LEVELS = 127
_ROW = 3  # dimensions of a bias that no Gemm takes
_LEVELS_REDUCED = 64  # two products of at most 255 x 64 fit into 16 bits with a sign


def activation_scale(low: float, high: float, activations: Activations) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point, float32 and int8 or uint8 scalars, so that `low` to `high` and 0 are covered."""
    if activations == "int8":
        return np.asarray(max(abs(low), abs(high)) / _LEVELS, np.float32), np.asarray(0, np.int8)
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.asarray((high - low) / 255, np.float32)
    return scale, np.asarray(np.clip(np.round(-low / scale), 0, 255), np.uint8)


def rounded_weight(matrix: np.ndarray, *, reduce_range: bool) -> tuple[np.ndarray, np.ndarray]:
    """A matrix, inputs x outputs, as int8 of the same shape and a float32 scale for each output."""
    levels = _LEVELS_REDUCED if reduce_range else _LEVELS
    scales = (np.abs(matrix).max(axis=0) / levels).astype(np.float32)
    scales[scales == 0] = 1.0  # an output that is always 0; a scale must be above it
    return np.clip(np.round(matrix / scales), -levels, levels).astype(np.int8), scales


class Int8Writer:
    """Makes linears of one graph int8, and remembers what it has stored already.

    Args:
        model: it is changed in place. Weights lie in its main graph, once for all branches. A branch rounds by nodes
            and scales of its own: ONNX Runtime makes an int8 product of what it finds in one graph, and of that only
            weights may lie outside.
        activations: type of the rounded activations.
        reduce_range: whether weights are rounded to 7 bits.
    """

    def __init__(self, model: ir.Model, activations: Activations, *, reduce_range: bool) -> None:
        self._graph = model.graph
        self._activations, self._reduce_range = activations, reduce_range
        self._names = {str(node.name) for node in self._graph.all_nodes()}
        self._inputs: dict[_Here, ir.Value] = {}  # float activation to the same, rounded
        self._weights: dict[_Here, ir.Value] = {}
        self._stored: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}  # float weight to its int8 and its scales
        self._left_behind: list[ir.Value] = []

    def write(self, linear: Linear, span: tuple[float, float], rank: int) -> None:
        """Let a linear multiply in int8.

        Args:
            linear: a plain one.
            span: smallest and largest number of its activation that the scale covers.
            rank: dimensions of its result.
        """
        left, right = self._rounded_input(linear, span), self._rounded_weight(linear)
        if linear.node.op_type == "Gemm":
            self._replace_gemm(linear, left, right)
            return
        linear.node.replace_input_with(0, left)
        linear.node.replace_input_with(1, right)
        self._lift_bias(linear.node, rank)

    def drop_unused(self) -> None:
        """Drop the float weights and biases that nothing reads any more."""
        for value in self._left_behind:
            if not value.uses():
                self._graph.initializers.pop(str(value.name), None)

    def _rounded_input(self, linear: Linear, span: tuple[float, float]) -> ir.Value:
        value, here = linear.activation, (_graph_of(linear.node), linear.activation)
        if here not in self._inputs:
            scale, zero = activation_scale(*span, self._activations)
            # A zero point of 0 is the same for all activations; it stands there for its type.
            zero_name = f"zero_{self._activations}" if zero == 0 else f"{value.name}_zero"
            named = ((f"{value.name}_scale", scale), (zero_name, zero))
            parameters = [self._store(name, number, here[0]) for name, number in named]
            name = self._name_in(here[0], str(value.name))
            small = self._node("QuantizeLinear", [value, *parameters], linear.node, f"{name}_quantized")
            self._inputs[here] = self._node(
                "DequantizeLinear", [small, *parameters], linear.node, f"{name}_dequantized"
            )
        return self._inputs[here]

    def _rounded_weight(self, linear: Linear) -> ir.Value:
        weight, graph = linear.weight, _graph_of(linear.node)
        if (graph, weight) not in self._weights:
            if weight not in self._stored:
                rounded, scales = rounded_weight(linear.matrix, reduce_range=self._reduce_range)
                stored = self._store(f"{weight.name}_int8", rounded), self._store(f"{weight.name}_scale", scales)
                self._stored[weight] = stored
                self._left_behind.append(weight)
            output = self._name_in(graph, f"{weight.name}_dequantized")
            self._weights[graph, weight] = self._node(
                "DequantizeLinear", list(self._stored[weight]), linear.node, output, {"axis": 1}
            )
        return self._weights[graph, weight]

    def _replace_gemm(self, linear: Linear, left: ir.Value, right: ir.Value) -> None:
        """Write a Gemm as MatMul and Add, since its bias has to come out of it."""
        node, result = linear.node, linear.node.outputs[0]
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        product = self._node("MatMul", [left, right], linear.node, f"{result.name}_product")
        final = product if bias is None else self._add_row(linear.node, product, bias, 2)
        self._supplant(node, final)

    def _lift_bias(self, product: ir.Node, rank: int) -> None:
        """Store the bias behind a MatMul in three dimensions at least, out of reach of ONNX Runtime's Gemm."""
        value = product.outputs[0]
        uses = list(value.uses())
        if len(uses) != 1 or uses[0].node.op_type != "Add" or uses[0].node.graph is not product.graph:
            return
        adding, place = uses[0]
        bias = adding.inputs[1 - place]
        if bias is None or not _is_stored(bias) or (bias.shape is not None and len(bias.shape) >= _ROW):
            return
        if rank > 2:
            adding.replace_input_with(1 - place, self._row(bias, rank))
            return
        self._supplant(adding, self._add_row(adding, value, bias, rank))

    def _supplant(self, node: ir.Node, result: ir.Value) -> None:
        """Let a value stand for the result of a node, under its name, and drop the node."""
        old = node.outputs[0]
        name, result.shape, result.type = old.name, old.shape, old.type
        old.replace_all_uses_with(result, replace_graph_outputs=True)
        _graph_of(node).remove(node, safe=True)
        result.name = name

    def _add_row(self, place: ir.Node, product: ir.Value, bias: ir.Value, rank: int) -> ir.Value:
        """Product plus bias, before the node `place`, with one dimension more than a Gemm could have in between."""
        name = str(product.name)
        if not _is_stored(bias):
            return self._node("Add", [product, bias], place, f"{name}_biased")
        total = self._node("Add", [product, self._row(bias, rank)], place, f"{name}_biased")
        # Shapes are inferred in a branch without a look at the numbers outside.
        axes = self._store(f"int8_squeezed{rank}", np.arange(_ROW - rank), _graph_of(place))
        return self._node("Squeeze", [total, axes], place, f"{name}_squeezed")

    def _row(self, bias: ir.Value, rank: int) -> ir.Value:
        """The bias with dimensions of one in front, stored once for all steps."""
        assert bias.const_value is not None, "only a stored bias is lifted"
        numbers = bias.const_value.numpy()
        lifted = numbers.reshape((1,) * (max(rank, _ROW) - numbers.ndim) + numbers.shape)
        self._left_behind.append(bias)
        return self._store(f"{bias.name}_row{lifted.ndim}", lifted)

    def _node(
        self,
        operator: str,
        inputs: list[ir.Value],
        place: ir.Node,
        output: str,
        attributes: dict[str, int] | None = None,
    ) -> ir.Value:
        """Put a node before `place`, named after the same module; its result."""
        name = stem = f"{str(place.name).rpartition('/')[0]}/{operator}{rung_suffix(place.name)}"
        number = 0
        while name in self._names:
            number += 1
            name = f"{stem}_{number}"
        self._names.add(name)
        node = ir.node(operator, inputs, attributes or {}, name=name)
        node.outputs[0].name = output
        _graph_of(place).insert_before(place, node)
        return node.outputs[0]

    def _store(self, name: str, numbers: np.ndarray, graph: ir.Graph | None = None) -> ir.Value:
        """An initializer of the main graph, or of a branch; one of the same name is the same."""
        graph = graph or self._graph
        name = self._name_in(graph, name)
        if name not in graph.initializers:
            tensor = ir.tensor(np.ascontiguousarray(numbers).reshape(numbers.shape), name=name)
            graph.initializers[name] = ir.Value(
                name=name, shape=ir.Shape(numbers.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
            )
        return graph.initializers[name]

    def _name_in(self, graph: ir.Graph, name: str) -> str:
        """A name that no branch has in common with another, or with the graph around it."""
        return name if graph is self._graph else f"{graph.name}/{name}"


def _graph_of(node: ir.Node) -> ir.Graph:
    """The graph or the branch that a node is in."""
    assert isinstance(node.graph, ir.Graph), "a linear is part of a graph"
    return node.graph


def _is_stored(value: ir.Value) -> bool:
    return value.is_initializer() and value.const_value is not None
