"""The linear layers of a graph, and which of them answer or decide and so stay in float whatever the precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

__all__ = ["Linear", "activations_of", "deciding", "linears_of"]

_PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "Attention")
_CHOOSERS = ("TopK", "ArgMax", "ArgMin", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Round", "Floor")
_INDICES = {"Gather": 1, "GatherElements": 1, "GatherND": 1, "ScatterElements": 1, "ScatterND": 1}
_WHOLE = (ir.DataType.BOOL, ir.DataType.INT32, ir.DataType.INT64)


@dataclass(frozen=True)
class Linear:
    """A product of an activation with a constant matrix.

    Attributes:
        node: the MatMul or Gemm.
        transposed: whether the matrix is stored as outputs x inputs, as a Gemm may have it.
    """

    node: ir.Node
    transposed: bool

    @property
    def name(self) -> str:
        return str(self.node.name)

    @property
    def activation(self) -> ir.Value:
        value = self.node.inputs[0]
        assert value is not None, "an operand of a product is never left out"
        return value

    @property
    def weight(self) -> ir.Value:
        value = self.node.inputs[1]
        assert value is not None, "an operand of a product is never left out"
        return value

    @property
    def plain(self) -> bool:
        """Whether it is activation times matrix, plus a bias at most."""
        attributes = self.node.attributes
        factors = attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0)
        return factors == (1.0, 1.0) and attributes.get_int("transA", 0) == 0

    @property
    def matrix(self) -> np.ndarray:
        """Inputs x outputs, float32."""
        assert self.weight.const_value is not None, "linears_of takes constant weights only"
        matrix = self.weight.const_value.numpy()
        return matrix.T if self.transposed else matrix


def linears_of(model: ir.Model) -> tuple[Linear, ...]:
    """Every MatMul and Gemm, those in branches too, whose right side is a float32 initializer of two dimensions."""
    return tuple(linear for node in model.graph.all_nodes() if (linear := _linear(node)) is not None)


def activations_of(model: ir.Model) -> frozenset[str]:
    """Names of the values that linears multiply: those whose histograms int8 scales are cut by."""
    return frozenset(str(linear.activation.name) for linear in linears_of(model))


def deciding(model: ir.Model, linears: tuple[Linear, ...]) -> dict[str, str]:
    """Names of the linears that answer or that choose tokens, each with what it does.

    A linear answers if `logits` follow from it with no product between. It chooses if a TopK, a comparison or an index
    does; or if it feeds nothing but linears that choose, as the inner layers of a small predictor do.
    """
    by_node = {linear.node: linear for linear in linears}
    found: dict[str, str] = {}
    onward: dict[str, set[str | None]] = {}
    outputs = set(model.graph.outputs)
    for linear in linears:
        reached: set[str | None] = set()
        for value, consumer, index in _follow(linear.node.outputs[0]):
            if value in outputs and value.name == "logits":
                found.setdefault(linear.name, "gives the logits")
            if consumer is None:
                continue
            if consumer.op_type in _CHOOSERS or _INDICES.get(consumer.op_type) == index or _to_whole(consumer):
                found[linear.name] = "chooses tokens"
            if consumer.op_type in _PRODUCTS:
                reached.add(by_node[consumer].name if consumer in by_node and index == 0 else None)
        onward[linear.name] = reached
    choosing = {name for name, what in found.items() if what == "chooses tokens"}
    while more := {name for name, reached in onward.items() if reached and reached <= choosing} - choosing:
        choosing |= more
    return found | {name: found.get(name, "feeds only what chooses tokens") for name in choosing}


def _linear(node: ir.Node) -> Linear | None:
    if node.domain not in ("", "ai.onnx") or node.op_type not in ("MatMul", "Gemm"):
        return None
    weight, activation = node.inputs[1], node.inputs[0]
    if weight is None or activation is None or not weight.is_initializer() or weight.const_value is None:
        return None
    if weight.const_value.dtype != ir.DataType.FLOAT or len(weight.const_value.shape) != 2:
        return None
    return Linear(node, node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1)


def _follow(start: ir.Value) -> Iterator[tuple[ir.Value, ir.Node | None, int]]:
    """Every use of a value and of what is made from it, up to the next products; a value itself with no consumer."""
    waiting, seen = [start], {start}
    while waiting:
        value = waiting.pop()
        yield value, None, 0
        for consumer, index in value.uses():
            yield value, consumer, index
            if consumer.op_type in _PRODUCTS:
                continue
            fresh = [output for output in consumer.outputs if output not in seen]
            seen.update(fresh)
            waiting.extend(fresh)


def _to_whole(node: ir.Node) -> bool:
    return node.op_type == "Cast" and node.attributes.get_int("to", 0) in [int(kind) for kind in _WHOLE]
