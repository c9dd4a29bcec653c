"""The precision a finished graph has, read back from the graph and not from what was asked."""

from __future__ import annotations

import onnx_ir as ir

from edgevit.errors import CheckFailed
from edgevit.spec import Precision

__all__ = ["achieved_precision", "require_precision"]

_PRODUCTS = ("MatMul", "Gemm", "Conv")
_BY_TYPE: dict[ir.DataType, Precision] = {
    ir.DataType.FLOAT: "fp32",
    ir.DataType.FLOAT16: "fp16",
    ir.DataType.BFLOAT16: "bf16",
}


def achieved_precision(model: ir.Model) -> Precision:
    """The lowest precision that any weight of a product is stored in; int8 where it comes out of a DequantizeLinear.

    Raises:
        CheckFailed: a weight is of a type that is no precision edgevit knows, float64 for one.
    """
    found: set[Precision] = set()
    for node in model.graph.all_nodes():
        if node.op_type not in _PRODUCTS or node.inputs[1] is None:
            continue
        weight = node.inputs[1]
        maker = weight.producer()
        if maker is not None and maker.op_type == "DequantizeLinear":
            found.add("int8")
        elif weight.const_value is not None:
            if weight.const_value.dtype not in _BY_TYPE:
                raise CheckFailed(
                    f"{node.name}: its weight is {weight.const_value.dtype.name}; convert the model first"
                )
            found.add(_BY_TYPE[weight.const_value.dtype])
    lowest_first: tuple[Precision, ...] = ("int8", "bf16", "fp16", "fp32")
    return next((precision for precision in lowest_first if precision in found), "fp32")


def require_precision(model: ir.Model, wanted: Precision) -> Precision:
    """The achieved precision, which is the wanted one.

    Raises:
        CheckFailed: it is another.
    """
    achieved = achieved_precision(model)
    if achieved != wanted:
        raise CheckFailed(f"asked for {wanted}, but the graph's weights are {achieved}; no bundle written")
    return achieved
