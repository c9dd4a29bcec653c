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
    """Needs the shapes that inference finds (`with_shapes`): what it cannot find depends on data."""
    ends = [(value, "") for value in (*model.graph.inputs, *model.graph.outputs)]
    inner = [(value, f"{node.name}: ") for node in _nodes(model) for value in node.outputs if value.name]
    for value, place in ends + inner:
        if value.shape is None or not all(isinstance(side, int) for side in value.shape):
            yield f"{place}{value.name}: shape {value.shape} is not static; TensorRT would need a profile"


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
    graph = model.graph
    noted: list[ir.Model | ir.Graph | ir.Node | ir.Value] = [
        model,
        graph,
        *_nodes(model),
        *graph.inputs,
        *graph.outputs,
        *graph.initializers.values(),
    ]
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
        mean = _producer(node, 1) if node.op_type == "Sub" else None
        centred = mean is not None and mean.op_type == "ReduceMean" and mean.inputs[0] is node.inputs[0]
        # Centring alone is harmless; the mean of the squares of what was centred is a variance.
        squares = [user for user in _users(node) if user.op_type in ("Pow", "Mul")] if centred else []
        if any(user.op_type == "ReduceMean" for square in squares for user in _users(square)):
            yield f"{node.name}: a LayerNorm taken apart overflows in fp16; wanted LayerNormalization as one node"


def _scale_on_q(model: ir.Model) -> Iterator[str]:
    for node in _nodes(model):
        if node.op_type != "Softmax" or not any(user.op_type == "MatMul" for user in _users(node)):
            continue  # a Softmax over classes may be scaled
        scores = _producers(node)
        masked = [source for mask in scores if mask.op_type in ("Add", "Where") for source in _producers(mask)]
        for source in scores + masked:
            if source.op_type in ("Mul", "Div") and any(p.op_type == "MatMul" for p in _producers(source)):
                yield f"{source.name}: scales the attention scores; scale q before, or TensorRT cannot fuse it"


RULES: tuple[Callable[[ir.Model], Iterator[str]], ...] = (
    _no_data_dependence,
    _static_shapes,
    _no_branches,
    _scatters_without_reduction,
    _standard_operators,
    _no_notes,
    _weights_stored_once,
    _fused_layer_norms,
    _scale_on_q,
)


def check_graph(model: ir.Model, *, branches: bool = False) -> None:
    """Hold a graph against every rule.

    Args:
        model: with its shapes written in by `with_shapes`.
        branches: whether it is an adaptive graph for a runtime that runs only the branch taken. What is in a branch is
            held against every other rule too.

    Raises:
        CheckFailed: a rule is broken; the line has the first breach and the number of others.
    """
    breaches = [breach for rule in RULES if not (branches and rule is _no_branches) for breach in rule(model)]
    if breaches:
        more = f" (and {len(breaches) - 1} more)" if len(breaches) > 1 else ""
        raise CheckFailed(f"the graph may not leave the exporter: {breaches[0]}{more}")


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()


def _users(node: ir.Node) -> list[ir.Node]:
    return [user for value in node.outputs for user in value.consumers()]


def _producers(node: ir.Node) -> list[ir.Node]:
    found = (value.producer() for value in node.inputs if value is not None)
    return [node for node in found if node is not None]


def _producer(node: ir.Node, index: int) -> ir.Node | None:
    value = node.inputs[index]
    return value.producer() if value is not None else None
