"""What each release of TensorRT makes of an ONNX graph: one table of facts, each with where it was read or seen.

A column is a release, a row is a fact. A cell says what the fact does to a graph there: `refused` (no engine), `falls
back` (something else than the graph asks for runs), `slower`, `unknown` (nobody has said, and it was not tried), or
None where the release takes it. What was tried was tried with tensorrt_rtx 1.7.1.116 on a machine without a GPU, which
parses and builds; no cell of the other columns has been run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .trt_releases import RELEASES, Release

__all__ = [
    "ATTENTION_FP32", "DEQUANTIZED_TYPE", "DOUBLE", "DYNAMIC_SHAPE", "FACTS", "IF", "LATER_OPERATOR",
    "LAYER_NORM_OUTPUTS", "LOOP", "NON_ZERO", "NO_SUCH_OPERATOR", "OPSET", "OTHER_DOMAIN",
    "SCATTER_ELEMENTS_REDUCTION", "SCATTER_ND_ATTRIBUTE", "SCATTER_ND_REDUCTION", "SCORES_SCALED",
    "SOFTMAX_TYPE", "TOPK_AXIS", "TOPK_DYNAMIC", "TOPK_K", "TOPK_UNSORTED", "TYPE", "UINT8",
    "UNLISTED_OPERATOR", "ZERO_POINT", "Fact", "Severity",
]  # fmt: skip

Severity = Literal["refused", "falls back", "slower", "unknown"]


_Cells = tuple[Severity | None, Severity | None, Severity | None, Severity | None]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One row.

    Attributes:
        says: what is so.
        remedy: what to do about a graph that meets it.
        source: page, issue, or `tried`.
        on: what it does to a graph on each of `RELEASES`, in their order.
    """

    says: str
    remedy: str
    source: str
    on: _Cells

    def severity(self, release: Release) -> Severity | None:
        """What it does to a graph there; None where the release takes it."""
        return self.on[RELEASES.index(release)]


_OPERATORS = "onnx-tensorrt docs/operators.md of 10.15"
_CHANGES = "onnx-tensorrt docs/Changelog.md"
_FUSED = "TensorRT documentation, Fused Attention"

_EVERYWHERE: _Cells = ("refused", "refused", "refused", "refused")

OPSET = Fact(
    says="the opset is not one that the release is known to read",
    remedy="export with --opset 20",
    source="see the release",
    on=("unknown", "unknown", "unknown", "unknown"),
)
NO_SUCH_OPERATOR = Fact(
    says="no release reads the operator",
    remedy="write it with other operators",
    source=f"{_OPERATORS}; tried: Unique, Det, BitwiseAnd, DynamicQuantizeLinear",
    on=_EVERYWHERE,
)
LATER_OPERATOR = Fact(
    says="the operator came with a later release",
    remedy="export at opset 20, which writes it out",
    source=_CHANGES,
    on=("refused", "refused", None, None),
)
UNLISTED_OPERATOR = Fact(
    says="the operator is in no table of TensorRT's parser",
    remedy="ask the parser: edgevit doctor where tensorrt-rtx is installed",
    source=_OPERATORS,
    on=("unknown", "unknown", "unknown", "unknown"),
)
OTHER_DOMAIN = Fact(
    says="an operator outside ONNX needs a plugin of that name; one that has a name of ONNX's is read as ONNX's",
    remedy="export without operators of other domains",
    source=f"{_CHANGES} (plugin fallback); tried: com.microsoft.Relu built as Relu",
    on=_EVERYWHERE,
)
TYPE = Fact(
    says="the operator is not listed with this type",
    remedy="cast before it",
    source=f"{_OPERATORS}; tried: TensorRT-RTX refuses Add of uint8 and builds ScatterElements of bool",
    on=("refused", "refused", "refused", "unknown"),
)
DOUBLE = Fact(
    says="double is computed in float32, clamped to its range",
    remedy="convert the model to float32",
    source=f"{_OPERATORS}; tried",
    on=("falls back", "falls back", "falls back", "falls back"),
)
DYNAMIC_SHAPE = Fact(
    says="an input without a constant shape needs an optimization profile, which edgevit does not make",
    remedy="export with constant sizes",
    source="TensorRT documentation, Working with Dynamic Shapes; tried: no engine",
    on=_EVERYWHERE,
)
NON_ZERO = Fact(
    says="NonZero makes shapes depend on data: no CUDA graph, no fusion after it; TensorRT-RTX has no plugin for it",
    remedy="select with TopK of a constant or with a mask",
    source="NVIDIA/TensorRT#2285, #4010; tried",
    on=("slower", "slower", "slower", "refused"),
)
LOOP = Fact(
    says="a loop keeps an engine from being captured as a CUDA graph, and its scan outputs are limited",
    remedy="unroll it",
    source=f"{_OPERATORS}; NVIDIA/TensorRT#2723",
    on=("slower", "slower", "slower", "slower"),
)
IF = Fact(
    says="an If tends to cost both branches and makes a larger engine",
    remedy="export for a TensorRT target, where --routing adaptive becomes stages; or with --routing topk or mask",
    source="NVIDIA/TensorRT#4402, #4059; tried: the engine was half as large again",
    on=("slower", "slower", "slower", "slower"),
)
TOPK_K = Fact(
    says="TopK takes at most 3840",
    remedy="select in two levels, or a smaller input",
    source="TensorRT documentation, operators/TopK; NVIDIA/TensorRT#4244; tried: 3840 built, 4000 parsed and not built",
    on=_EVERYWHERE,
)
TOPK_UNSORTED = Fact(
    says="TopK must be sorted",
    remedy="export with sorted=1",
    source=f"{_OPERATORS}; tried: TensorRT-RTX builds an unsorted one",
    on=("refused", "refused", "refused", None),
)
TOPK_DYNAMIC = Fact(
    says="a K that is not a constant makes shapes depend on data",
    remedy="make K a constant",
    source=f"{_CHANGES} (dynamic K since 8.6); NVIDIA/TensorRT#987, #2718",
    on=("slower", "slower", "slower", "slower"),
)
TOPK_AXIS = Fact(
    says="TopK runs along one of the last four axes",
    remedy="transpose before it",
    source="TensorRT documentation, operators/TopK",
    on=_EVERYWHERE,
)
SCATTER_ELEMENTS_REDUCTION = Fact(
    says="ScatterElements with a reduction runs as a plugin, which TensorRT-RTX does not have",
    remedy="sum with a product by a one-hot matrix",
    source=f"{_CHANGES} (10.0, 10.3); NVIDIA/TensorRT#4701; tried",
    on=("falls back", "falls back", "falls back", "refused"),
)
SCATTER_ND_REDUCTION = Fact(
    says="ScatterND with a reduction is not read",
    remedy="sum with a product by a one-hot matrix",
    source=f"{_OPERATORS}; tried",
    on=_EVERYWHERE,
)
SCATTER_ND_ATTRIBUTE = Fact(
    says="ScatterND of opset 18 was misread before 10.9, for its attribute reduction even where it is none",
    remedy="leave the attribute out, or use ScatterElements",
    source=f"{_CHANGES} (10.9); onnx/onnx-tensorrt#1013",
    on=("unknown", None, None, None),
)
ZERO_POINT = Fact(
    says="quantization is symmetric: a zero point must be 0",
    remedy="quantize to int8 with zero point 0",
    source=f"{_OPERATORS}; tried",
    on=_EVERYWHERE,
)
UINT8 = Fact(
    says="uint8 is no type to quantize to: TensorRT-RTX takes it for int8 with a warning, and 128 to 255 are lost",
    remedy="quantize to int8 with zero point 0",
    source=f"{_OPERATORS} (uint8 is for inputs and outputs alone); tried",
    on=_EVERYWHERE,
)
DEQUANTIZED_TYPE = Fact(
    says="DequantizeLinear takes int8, int4, FP8 and FP4, not the int32 of a quantized bias",
    remedy="keep biases in float",
    source=f"{_OPERATORS}; tried",
    on=_EVERYWHERE,
)
LAYER_NORM_OUTPUTS = Fact(
    says="only the first output of LayerNormalization is read",
    remedy="export without its mean and deviation",
    source=f"{_OPERATORS}; tried",
    on=_EVERYWHERE,
)
ATTENTION_FP32 = Fact(
    says="the Attention operator has no fused kernel in float32 and may not be taken apart, so no engine is built",
    remedy="export at opset 20, or with --precision fp16",
    source="TensorRT documentation, IAttention; tried in TensorRT-RTX 1.7: refused in float32, built in fp16",
    on=(None, None, "unknown", "refused"),
)
SCORES_SCALED = Fact(
    says="attention whose scores are scaled after the first product is not fused",
    remedy="scale q before it, as edgevit's exporter does",
    source=f"{_FUSED}; NVIDIA/TensorRT#3620",
    on=("slower", "slower", "slower", "slower"),
)
SOFTMAX_TYPE = Fact(
    says="a Softmax in another type than the products around it is outside the pattern documented for fusion",
    remedy="measure it against an engine with the Softmax in the products' type",
    source=f"{_FUSED}; no release was measured",
    on=("unknown", "unknown", "unknown", "unknown"),
)

FACTS = (
    OPSET, NO_SUCH_OPERATOR, LATER_OPERATOR, UNLISTED_OPERATOR, OTHER_DOMAIN, TYPE, DOUBLE, DYNAMIC_SHAPE,
    NON_ZERO, LOOP, IF, TOPK_K, TOPK_UNSORTED, TOPK_DYNAMIC, TOPK_AXIS, SCATTER_ELEMENTS_REDUCTION,
    SCATTER_ND_REDUCTION, SCATTER_ND_ATTRIBUTE, ZERO_POINT, UINT8, DEQUANTIZED_TYPE, LAYER_NORM_OUTPUTS,
    ATTENTION_FP32, SCORES_SCALED, SOFTMAX_TYPE,
)  # fmt: skip
"""The table, top to bottom."""
