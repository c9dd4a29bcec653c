"""What a lower precision came to, as it is stored beside the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgevit.parity import Parity
from edgevit.spec import Precision

from .drift import Rung, Score
from .half import MOVES
from .islands import Island
from .shapes import with_shapes

__all__ = ["Largest", "PrecisionReport", "Retry", "largest_values", "node_shares", "weight_bytes"]

_SHOWN_VALUES = 8
_PRODUCTS = ("Conv", "Gemm", "MatMul")
_WORDS = {ir.DataType.FLOAT: "fp32", ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16"}
_BORDERS = MOVES | {"Cast", "Constant", "ConstantOfShape", "DequantizeLinear", "Pad", "QuantizeLinear"}


@dataclass(frozen=True)
class Retry:
    """One widening of what stays in a higher precision.

    Attributes:
        part: the part of the model, or the linear, that was given back its precision.
        because: what was wrong with the graph before.
    """

    part: str
    because: str


@dataclass(frozen=True)
class Largest:
    """A value of the fp32 graph and the largest magnitude it reached on the calibration pictures."""

    value: str
    magnitude: float


@dataclass(frozen=True)
class PrecisionReport:
    """What a precision came to.

    Attributes:
        requested: the precision asked for.
        nodes: share of the operators that compute in each type; those that only move values are not counted. A linear
            of int8 counts as int8.
        weight_bytes: of the initializers, by type.
        islands: the nodes that stayed in fp32 while the rest became half.
        float_linears: linears that stayed in float while the others became int8, each with why.
        largest: the largest values on the calibration pictures.
        calibrated_on: batches that ranges were measured on; generated inputs if `generated`.
        generated: whether there were no calibration pictures.
        golden: the agreement with the source model on the golden inputs.
        pictures: the agreement with the fp32 graph on the calibration pictures; None without any.
        retries: how the islands were widened, in order.
        rungs: the drift of each part of the model on the golden inputs.
        scores: the drift of what is ranked.
    """

    requested: Precision
    nodes: dict[str, float]
    weight_bytes: dict[str, int]
    islands: tuple[Island, ...]
    float_linears: tuple[str, ...]
    largest: tuple[Largest, ...]
    calibrated_on: int
    generated: bool
    golden: Parity
    pictures: Parity | None
    retries: tuple[Retry, ...]
    rungs: tuple[Rung, ...]
    scores: tuple[Score, ...]


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
