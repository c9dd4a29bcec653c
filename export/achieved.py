"""The precision a finished graph has, read back from the graph and not from what was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir

from edgevit.errors import CheckFailed
from edgevit.spec import Precision

from .rung_names import without_rung

__all__ = ["achieved_precision", "require_precision"]

_PRODUCTS = ("MatMul", "Gemm", "Conv")
_CONVERSIONS = ("Cast", "DequantizeLinear", "Transpose")
_BY_TYPE: dict[ir.DataType, Precision] = {
    ir.DataType.FLOAT: "fp32",
    ir.DataType.FLOAT16: "fp16",
    ir.DataType.BFLOAT16: "bf16",
}


def achieved_precision(model: ir.Model) -> Precision:
    """The precision that most weights of products are stored in, by their numbers; int8 behind a DequantizeLinear.

    Most, because a graph of any lower precision keeps a few in fp32 by design: a request is not met by one weight.

    Raises:
        CheckFailed: a weight is of a type that is no precision edgevit knows, float64 for one.
    """
    numbers: Counter[Precision] = Counter()
    for _, size, precision in _weighted(model):
        numbers[precision] += size
    highest_first: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")
    return max(highest_first, key=lambda precision: numbers[precision])


def _weighted(model: ir.Model) -> Iterator[tuple[ir.Node, int, Precision]]:
    """The products with a weight, those in branches too, each with the numbers of its weight and their precision."""
    for node in model.graph.all_nodes():
        if node.op_type not in _PRODUCTS or node.inputs[1] is None:
            continue
        weight, precision = _stored(node.inputs[1])
        if weight is None:
            continue
        if precision is None and weight.dtype not in _BY_TYPE:
            raise CheckFailed(f"{node.name}: its weight is {weight.dtype.name}; convert the model first")
        yield node, weight.size, precision or _BY_TYPE[weight.dtype]


def _stored(value: ir.Value) -> tuple[ir.TensorProtocol | None, Precision | None]:
    """The constant a value is made of by conversions alone, None for an activation; int8 if one was quantized."""
    precision: Precision | None = None
    while (maker := value.producer()) is not None and maker.op_type in _CONVERSIONS and maker.inputs[0] is not None:
        precision = "int8" if maker.op_type == "DequantizeLinear" else precision
        value = maker.inputs[0]
    return value.const_value, precision


def require_precision(model: ir.Model, wanted: Precision) -> Precision:
    """The achieved precision, which is the wanted one, whichever branches are taken.

    Raises:
        CheckFailed: it is another, or a product has not the same in all rungs of a step.
    """
    of_products: dict[str, Precision] = {}
    for node, _, precision in _weighted(model):
        name = without_rung(node.name)
        if of_products.setdefault(name, precision) != precision:
            raise CheckFailed(f"{name} is {wanted} in some rungs of its step and not in others; no bundle written")
    achieved = achieved_precision(model)
    if achieved != wanted:
        raise CheckFailed(f"asked for {wanted}, but most of the graph's weights are {achieved}; no bundle written")
    return achieved
