"""What is read back from a lowered graph for its record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import onnx_ir as ir

from edgevit.precision_record import Largest, PrecisionReport

from .half import MOVES
from .shapes import with_shapes

__all__ = ["PrecisionReport", "largest_values", "node_shares", "weight_bytes"]

_SHOWN_VALUES = 8
_PRODUCTS = ("Conv", "Gemm", "MatMul")
_WORDS = {ir.DataType.FLOAT: "fp32", ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16"}
_BORDERS = MOVES | {"Cast", "Constant", "ConstantOfShape", "DequantizeLinear", "Pad", "QuantizeLinear"}


def largest_values(largest: Mapping[str, float]) -> tuple[Largest, ...]:
    """The values that became the largest; one that was no number has no magnitude to state and is left out."""
    finite = [(name, size) for name, size in largest.items() if size < float("inf")]
    return tuple(Largest(name, size) for name, size in sorted(finite, key=lambda item: -item[1])[:_SHOWN_VALUES])


def node_shares(model: ir.Model) -> dict[str, float]:
    """Share of the operators on floats that compute in each type, those that only move or convert values aside."""
    graph = with_shapes(model).graph
    kinds = Counter(kind for node in graph if (kind := _kind(node)) is not None)
    return {kind: count / kinds.total() for kind, count in sorted(kinds.items())}


def weight_bytes(model: ir.Model) -> dict[str, int]:
    """Bytes of the initializers, by type: `fp32`, `fp16`, `bf16`, `int8`, and integers used as shapes as `int64`."""
    sizes: Counter[str] = Counter()
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            kind = value.const_value.dtype
            sizes[_WORDS.get(kind, kind.name.lower())] += value.const_value.nbytes
    return dict(sorted(sizes.items()))


def _kind(node: ir.Node) -> str | None:
    makers = [value.producer() for value in node.inputs if value is not None]
    if node.op_type in _PRODUCTS and all(m is not None and m.op_type == "DequantizeLinear" for m in makers[:2]):
        return "int8"
    types = [value.dtype for value in (*node.outputs, *node.inputs) if value is not None]
    return None if node.op_type in _BORDERS else next((_WORDS[kind] for kind in types if kind in _WORDS), None)
