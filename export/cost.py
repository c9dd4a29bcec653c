"""What one run of a graph computes, counted from the graph itself."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import onnx_ir as ir

__all__ = ["Cost", "count"]


_UNCOUNTED = {"Attention", "ConvTranspose", "Einsum", "GRU", "LSTM", "MatMulInteger", "QLinearConv", "QLinearMatMul"}


@dataclass(frozen=True)
class Cost:
    """Arithmetic and storage of a graph at its own batch size.

    Attributes:
        flops: of matrix products and convolutions, two for each multiply-add; the rest of a transformer is under
            two per cent of it.
        flops_by_module: the same, by the part of the model that the nodes are named after.
        weight_bytes: of all initializers, each stored once.
        nodes: operators.
        uncounted: kinds of operators that multiply and are not in `flops`; empty for edgevit's own models.
    """

    flops: int
    flops_by_module: dict[str, int]
    weight_bytes: int
    nodes: int
    uncounted: tuple[str, ...]


def count(model: ir.Model) -> Cost:
    """Count a graph whose shapes were written in by `with_shapes` and whose nodes are named by `name_nodes`."""
    by_module: defaultdict[str, int] = defaultdict(int)
    for node in model.graph.all_nodes():
        flops = _flops(node)
        if flops:
            by_module[_module(node.name or "")] += flops
    weights = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    uncounted = {node.op_type for node in model.graph.all_nodes()} & _UNCOUNTED
    return Cost(sum(by_module.values()), dict(by_module), weights, len(model.graph), tuple(sorted(uncounted)))


def _flops(node: ir.Node) -> int:
    if node.op_type not in ("MatMul", "Gemm", "Conv"):
        return 0
    result = 2 * math.prod(_shape(node.outputs[0]))
    left, right = _shape(node.inputs[0]), _shape(node.inputs[1])
    if node.op_type == "Conv":
        return result * math.prod(right[1:])  # weight: out x in/group x kernel
    transposed = node.attributes.get("transA")
    if node.op_type == "Gemm" and transposed is not None and transposed.as_int():
        return result * left[0]
    return result * left[-1]


def _module(name: str) -> str:
    """`blocks.0[2].attention.qkv/MatMul` belongs to `blocks.0[2]`."""
    path = name.split("/")[0].split(".")
    return ".".join(path[:2]) if path[0] == "blocks" else path[0]


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    assert value is not None, "an operand of a product is never left out"
    assert value.shape is not None, f"{value.name} has no shape after inference"
    return tuple(int(side) for side in value.shape)  # type: ignore[arg-type]
