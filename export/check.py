"""What a graph that leaves the exporter may contain: each rule is a function from a model to its breaches.

The rules are those of the design; a breach names the node or value, what is wrong with it, and why it matters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import onnx_ir as ir

from edgevit.errors import CheckFailed

__all__ = ["RULES", "check_graph"]

_DATA_DEPENDENT = ("NonZero", "Loop", "Scan", "Unique", "Compress")
_SCATTERS = ("ScatterElements", "ScatterND", "Scatter")
# Small equal constants (a zero bias, an axis) are no weights: sharing them saves nothing.
_WEIGHT_BYTES = 4096


def _static_shapes(model: ir.Model) -> Iterator[str]:
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is None or not all(isinstance(side, int) and side > 0 for side in value.shape):
            yield f"{value.name}: shape {value.shape} is not static; TensorRT would need a profile"


def _no_data_dependence(model: ir.Model) -> Iterator[str]:
    for node in _nodes(model):
        if node.op_type in _DATA_DEPENDENT or "Sequence" in node.op_type:
            yield f"{node.name}: {node.op_type} makes shapes depend on data"


def _no_branches(model: ir.Model) -> Iterator[str]:
    for node in _nodes(model):
        if node.op_type == "If":
            yield f"{node.name}: If belongs in an adaptive graph for ONNX Runtime alone"


def _scatters_without_reduction(model: ir.Model) -> Iterator[str]:
    for node in _nodes(model):
        if node.op_type in _SCATTERS and node.attributes.get_string("reduction", "none") != "none":
            yield f"{node.name}: {node.op_type} with a reduction is silently wrong on TensorRT before 10"


def _standard_operators(model: ir.Model) -> Iterator[str]:
    for node in _nodes(model):
        if node.domain not in ("", "ai.onnx"):
            yield f"{node.name}: {node.domain}.{node.op_type} is no ONNX operator; plain ONNX Runtime could not run it"


def _no_notes(model: ir.Model) -> Iterator[str]:
    noted = [model, model.graph, *_nodes(model), *model.graph.inputs, *model.graph.outputs]
    for thing in noted:
        if thing.metadata_props or thing.doc_string:
            yield f"{getattr(thing, 'name', 'model')}: carries metadata, which may hold paths of this machine"


def _weights_stored_once(model: ir.Model) -> Iterator[str]:
    first: dict[str, str] = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < _WEIGHT_BYTES:
            continue
        key = f"{tensor.dtype} {tensor.shape} {hashlib.sha256(tensor.tobytes()).hexdigest()}"
        if key in first:
            yield f"{name}: the same weight as {first[key]}, stored twice"
        first.setdefault(key, name)


def _fused_layer_norms(model: ir.Model) -> Iterator[str]:
    for node in _nodes(model):
        centred = node.op_type == "Sub" and (mean := _producer(node, 1)) and mean.op_type == "ReduceMean"
        if centred and mean and mean.inputs[0] is node.inputs[0]:
            yield f"{node.name}: a LayerNorm taken apart overflows in fp16; wanted LayerNormalization as one node"


def _scale_on_q(model: ir.Model) -> Iterator[str]:
    for node in _nodes(model):
        if node.op_type != "Softmax":
            continue
        source = _producer(node, 0)
        if source is not None and source.op_type == "Add":  # the additive mask
            source = _producer(source, 0)
        if source is not None and source.op_type in ("Mul", "Div"):
            product = _producer(source, 0)
            if product is not None and product.op_type == "MatMul":
                yield f"{source.name}: scales the attention scores; scale q before, or TensorRT cannot fuse it"


RULES: tuple[Callable[[ir.Model], Iterator[str]], ...] = (
    _static_shapes,
    _no_data_dependence,
    _no_branches,
    _scatters_without_reduction,
    _standard_operators,
    _no_notes,
    _weights_stored_once,
    _fused_layer_norms,
    _scale_on_q,
)


def check_graph(model: ir.Model) -> None:
    """Hold a graph against every rule.

    Raises:
        CheckFailed: a rule is broken; the line has the first breach and the number of others.
    """
    breaches = [breach for rule in RULES for breach in rule(model)]
    if breaches:
        more = f" (and {len(breaches) - 1} more)" if len(breaches) > 1 else ""
        raise CheckFailed(f"the graph may not leave the exporter: {breaches[0]}{more}")


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()


def _producer(node: ir.Node, index: int) -> ir.Node | None:
    value = node.inputs[index]
    return value.producer() if value is not None else None
