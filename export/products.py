"""The operators of a graph that multiply: what each takes, from shapes alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

__all__ = ["UNCOUNTED", "Product", "is_uncounted", "product_of", "shape_of"]

UNCOUNTED = {"Attention", "ConvTranspose", "Einsum", "GRU", "LSTM", "MatMulInteger", "QLinearConv", "QLinearMatMul"}


@dataclass(frozen=True)
class Product:
    """A matrix product, a convolution or a whole attention.

    Attributes:
        flops: two for each multiply-add.
        rows_in: positions it takes, over the whole batch: rows of a matrix, pixels of a map. 0 for a product of two
            activations, as attention is one.
        rows_out: positions it gives.
        sides: of a product of two activations the rows, the columns and the length summed over; empty for others.
    """

    flops: int
    rows_in: int = 0
    rows_out: int = 0
    sides: tuple[int, ...] = ()


def product_of(node: ir.Node) -> Product | None:
    """What a node multiplies; None if it does not, or if it is one of those that are not counted."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Conv":
        return _convolution(node)
    if node.op_type == "Gemm":
        left, right = shape_of(node.inputs[0]), shape_of(node.inputs[1])
        rows, inner = (left[1], left[0]) if _is_set(node, "transA") else (left[0], left[1])
        columns = right[0] if _is_set(node, "transB") else right[1]
        return _product(node.inputs[1], 2 * rows * inner * columns, rows, (rows, columns, inner))
    if node.op_type == "MatMul":
        left, result = shape_of(node.inputs[0]), shape_of(node.outputs[0])
        rows, columns = left[-2] if len(left) > 1 else 1, shape_of(node.inputs[1])[-1]
        return _product(
            node.inputs[1], 2 * math.prod(result) * left[-1], math.prod(left[:-1]), (rows, columns, left[-1])
        )
    return _attention(node) if node.op_type == "Attention" else None


def is_uncounted(node: ir.Node) -> bool:
    """Whether a node multiplies and `product_of` does not say how much."""
    return node.op_type in UNCOUNTED and product_of(node) is None


def shape_of(value: ir.Value | None) -> tuple[int, ...]:
    """The static shape of an operand that is there."""
    assert value is not None, "an operand of a product is never left out"
    assert value.shape is not None, f"{value.name} has no shape after inference"
    return tuple(int(side) for side in value.shape)  # type: ignore[arg-type]


def _product(right: ir.Value | None, flops: int, rows: int, sides: tuple[int, int, int]) -> Product:
    by_weight = right is not None and right.const_value is not None
    return Product(flops, rows, rows) if by_weight else Product(flops, sides=sides)


def _convolution(node: ir.Node) -> Product:
    image, weight, result = shape_of(node.inputs[0]), shape_of(node.inputs[1]), shape_of(node.outputs[0])
    flops = 2 * math.prod(result) * math.prod(weight[1:])  # weight: out x in/group x kernel
    return Product(flops, image[0] * math.prod(image[2:]), result[0] * math.prod(result[2:]))


def _attention(node: ir.Node) -> Product:
    """ONNX's Attention (opset 23): heads in a dimension of their own, or side by side in the last one."""
    query, key, result = shape_of(node.inputs[0]), shape_of(node.inputs[1]), shape_of(node.outputs[0])
    queries, keys = query[-2], key[-2]
    if len(node.inputs) > 4 and node.inputs[4] is not None:
        keys += shape_of(node.inputs[4])[-2]  # those of the past
    flops = 2 * keys * (math.prod(query) + math.prod(result))  # scores, then values
    return Product(flops, sides=(queries, keys, query[-1]))


def _is_set(node: ir.Node, attribute: str) -> bool:
    value = node.attributes.get(attribute)
    return value is not None and bool(value.as_int())
