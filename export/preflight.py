"""Whether TensorRT will take a graph, told from the graph alone: no device, no library.

Each rule looks for one thing that a release is known to refuse, replace or run slowly (`trt_facts.py` says where that
is known from) and yields the nodes that have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from . import trt_facts as facts
from .attention_form import attentions
from .shapes import with_shapes
from .trt_facts import Fact, Severity
from .trt_operators import ADDED_IN, NOT_READ, TYPES_READ
from .trt_releases import Release

__all__ = ["Finding", "preflight"]

_OLDEST_OPSET, _MOST_K, _LAST_AXES = 9, 3840, 4
# The newest table there is: later releases and TensorRT-RTX read at least what it lists.
_NEWEST_TABLE = (10, 15)


@dataclass(frozen=True)
class Finding:
    """Something about a graph that a release will not take as it is.

    Attributes:
        release: its name.
        severity: `refused`, `falls back`, `slower` or `unknown`.
        says: what is so.
        nodes: the nodes that have it, each with what it is, `head/TopK_3: K = 4000`; empty for the graph as a whole.
        remedy: what to do.
        source: where the fact comes from.
    """

    release: str
    severity: Severity
    says: str
    nodes: tuple[str, ...]
    remedy: str
    source: str


# What a rule yields: a fact, and the node that has it or a word on the graph.
_Hit = tuple[Fact, str]
_Rule = Callable[[ir.Model, Release], Iterator[_Hit]]


def preflight(model: ir.Model | bytes, release: Release) -> tuple[Finding, ...]:
    """What a release of TensorRT will not take as it is, the worst first.

    Args:
        model: the graph, or the bytes of its file. It is not changed.
        release: one of `RELEASES`.
    """
    if isinstance(model, bytes):
        model = ir.from_proto(onnx.load_from_string(model))
    shaped = with_shapes(model)
    nodes: dict[Fact, list[str]] = {}
    for rule in _RULES:
        for fact, node in rule(shaped, release):
            if fact.severity(release) is not None:
                nodes.setdefault(fact, []).append(node)
    found = [_finding(fact, release, tuple(dict.fromkeys(having))) for fact, having in nodes.items()]
    return tuple(sorted(found, key=lambda finding: _WORST_FIRST.index(finding.severity)))


_WORST_FIRST: tuple[Severity, ...] = ("refused", "falls back", "slower", "unknown")


def _finding(fact: Fact, release: Release, nodes: tuple[str, ...]) -> Finding:
    severity = fact.severity(release)
    assert severity is not None
    source = release.opset_source if fact is facts.OPSET else fact.source
    return Finding(release.name, severity, fact.says, nodes, fact.remedy, source)


def _opset(model: ir.Model, release: Release) -> Iterator[_Hit]:
    opset = model.graph.opset_imports.get("", _OLDEST_OPSET)
    if not _OLDEST_OPSET <= opset <= release.newest_opset:
        yield facts.OPSET, f"opset {opset}, known are {_OLDEST_OPSET} to {release.newest_opset}"


def _operators(model: ir.Model, release: Release) -> Iterator[_Hit]:
    version = min(release.version, _NEWEST_TABLE) if release.library == "tensorrt" else _NEWEST_TABLE
    for node in model.graph.all_nodes():
        name = _name(node)
        if node.domain not in ("", "ai.onnx"):
            yield facts.OTHER_DOMAIN, f"{name}: {node.domain}.{node.op_type}"
        elif node.op_type in NOT_READ:
            yield facts.NO_SUCH_OPERATOR, f"{name}: {node.op_type}"
        elif node.op_type not in TYPES_READ:
            yield facts.UNLISTED_OPERATOR, f"{name}: {node.op_type}"
        elif ADDED_IN.get(node.op_type, (0, 0)) > version:
            yield facts.LATER_OPERATOR, f"{name}: {node.op_type} of {'.'.join(map(str, ADDED_IN[node.op_type]))}"


def _types(model: ir.Model, release: Release) -> Iterator[_Hit]:
    for node in model.graph.all_nodes():
        if node.op_type not in TYPES_READ or node.op_type == "DequantizeLinear" or not node.inputs:
            continue
        value = node.inputs[1 if node.op_type == "Where" else 0]
        if value is None or value.dtype is None:
            continue
        if value.dtype == ir.DataType.DOUBLE:
            yield facts.DOUBLE, f"{_name(node)}: {node.op_type}"
        elif value.dtype not in TYPES_READ[node.op_type]:
            yield facts.TYPE, f"{_name(node)}: {node.op_type} of {value.dtype.name}"


def _inputs(model: ir.Model, release: Release) -> Iterator[_Hit]:
    for value in model.graph.inputs:
        if value.shape is None or not all(isinstance(side, int) for side in value.shape):
            yield facts.DYNAMIC_SHAPE, f"{value.name}: {value.shape}"


def _control_flow(model: ir.Model, release: Release) -> Iterator[_Hit]:
    for node in model.graph.all_nodes():
        fact = {"NonZero": facts.NON_ZERO, "If": facts.IF, "Loop": facts.LOOP, "Scan": facts.LOOP}.get(node.op_type)
        if fact is not None:
            yield fact, _name(node)


def _top_k(model: ir.Model, release: Release) -> Iterator[_Hit]:
    for node in _of(model, "TopK"):
        given = node.inputs[1]
        k = ir.convenience.get_const_tensor(given) if given is not None else None
        if k is None:
            yield facts.TOPK_DYNAMIC, _name(node)
        elif k.numpy().max() > _MOST_K:
            yield facts.TOPK_K, f"{_name(node)}: K = {k.numpy().max()}"
        if not node.attributes.get_int("sorted", 1):
            yield facts.TOPK_UNSORTED, _name(node)
        source = node.inputs[0]
        axis = node.attributes.get_int("axis", -1)
        if source is not None and source.shape is not None and 0 <= axis < len(source.shape) - _LAST_AXES:
            yield facts.TOPK_AXIS, f"{_name(node)}: axis {axis} of {len(source.shape)}"


def _scatters(model: ir.Model, release: Release) -> Iterator[_Hit]:
    for node in _of(model, "ScatterElements", "ScatterND", "Scatter"):
        reduction = node.attributes.get_string("reduction", "none")
        elements = node.op_type != "ScatterND"
        if reduction != "none":
            yield (
                facts.SCATTER_ELEMENTS_REDUCTION if elements else facts.SCATTER_ND_REDUCTION,
                f"{_name(node)}: {reduction}",
            )
        elif not elements and "reduction" in node.attributes:
            yield facts.SCATTER_ND_ATTRIBUTE, _name(node)


def _quantization(model: ir.Model, release: Release) -> Iterator[_Hit]:
    for node in _of(model, "QuantizeLinear", "DequantizeLinear"):
        zero_point = node.inputs[2] if len(node.inputs) > 2 else None
        quantized = (node.inputs if node.op_type == "DequantizeLinear" else node.outputs)[0]
        kind = quantized.dtype if quantized is not None else None
        if kind == ir.DataType.UINT8:
            yield facts.UINT8, _name(node)
        elif node.op_type == "DequantizeLinear" and kind is not None and kind not in TYPES_READ[node.op_type]:
            yield facts.DEQUANTIZED_TYPE, f"{_name(node)}: {kind.name}"
        constant = ir.convenience.get_const_tensor(zero_point) if zero_point is not None else None
        if zero_point is not None and (constant is None or constant.numpy().any()):
            yield facts.ZERO_POINT, _name(node)


def _layer_norms(model: ir.Model, release: Release) -> Iterator[_Hit]:
    for node in _of(model, "LayerNormalization"):
        if len(node.outputs) > 1:
            yield facts.LAYER_NORM_OUTPUTS, _name(node)


def _attention(model: ir.Model, release: Release) -> Iterator[_Hit]:
    for node in _of(model, "Attention"):
        query = node.inputs[0]
        if query is not None and query.dtype == ir.DataType.FLOAT:
            yield facts.ATTENTION_FP32, _name(node)
    for found in attentions(model):
        if found.scaled_by is not None:
            yield facts.SCORES_SCALED, _name(found.scaled_by)
        if found.recast:
            yield facts.SOFTMAX_TYPE, _name(found.softmax)


_RULES: tuple[_Rule, ...] = (
    _opset, _operators, _types, _inputs, _control_flow, _top_k, _scatters, _quantization, _layer_norms, _attention,
)  # fmt: skip


def _of(model: ir.Model, *op_types: str) -> Iterator[ir.Node]:
    return (node for node in model.graph.all_nodes() if node.op_type in op_types)


def _name(node: ir.Node) -> str:
    """Its name, or what it makes where it has none."""
    return node.name or f"{node.op_type} of {node.outputs[0].name}"
