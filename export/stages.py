"""An adaptive graph in stages, between which the host chooses: for runtimes on which an `If` may cost all its branches.

The cut lies where the first choice is made. What comes before it is the same whatever is chosen, and what comes after
it stands once for each budget, with every later step in that many tokens: no later step takes a token that the second
one left, so that one choice is enough.

Every value that crosses the cut travels in `state`, cast to float32 (truth values and small whole numbers stay exact),
flattened to B x n and laid side by side. So each stage has one floating input, and what runs a graph runs a stage.

A runtime that builds an engine for each graph cannot share weights between them: k budgets cost the recursive weights
k + 1 times, in files and on the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from edgevit.bundle import ACTIVE, STATE
from edgevit.spec import RoutingSpec

from .adaptive import settled
from .adaptive_parts import cut_bodies
from .name_thresholds import name_thresholds
from .products import shape_of
from .rung import Builder
from .share_weights import strip_notes
from .trace import SMALLEST_RUNG

__all__ = ["RESUME", "Seam", "chosen_tokens", "cut", "find_seam", "force_active", "stages"]

RESUME = "resume"  # whose nodes take the values out of the state: resume/NUMBER/Slice_0


@dataclass(frozen=True)
class Seam:
    """Where a graph is cut, by names, which every settled form of it shares.

    Attributes:
        crossing: values that are computed before the first choice and read after it, in the order of the graph.
        ranks: the one of them that the choice is made by: B x (1 + N), below 0 where a token is not active.
    """

    crossing: tuple[str, ...]
    ranks: str


def stages(model: ir.Model, routing: RoutingSpec) -> tuple[ir.Model, dict[int, ir.Model]]:
    """The stages of a graph of `trace_parts`, which is left as it is.

    Args:
        model: its nodes named, its weights shared.
        routing: `adaptive`, the budgets of all later steps the same.

    Returns:
        From `image` to `state`, float32 B x M, and `active`, int32 B; and for each budget from `state` to the outputs.
    """
    seam = find_seam(model)
    (budgets,) = set(routing.budgets)
    enters, rests = [], {}
    for k in budgets:
        flat = settled(model, [k] * (routing.steps - 1))
        common.DeduplicateHashedInitializersPass()(flat)  # before the thresholds, which may be equal
        if routing.selection == "threshold":
            name_thresholds(flat, routing.thresholds)
        enter, rests[k] = cut(flat, seam)
        enters.append(enter)
    assert len({ir.to_proto(enter).SerializeToString(deterministic=True) for enter in enters}) == 1, "one way to enter"
    return enters[0], rests


def find_seam(model: ir.Model) -> Seam:
    """Where a graph of `trace_parts` is cut: before its first choice."""
    copy = ir.from_proto(ir.to_proto(model))
    cut_bodies(copy)
    first = next(node for node in copy.graph if node.domain == SMALLEST_RUNG.domain)
    after = {first}
    for node in copy.graph:
        if any(value is not None and value.producer() in after for value in node.inputs):
            after.add(node)
    answers = set(copy.graph.outputs)
    crossing = [
        str(value.name)
        for node in copy.graph
        if node not in after
        for value in node.outputs
        if value in answers or any(reader in after for reader in value.consumers())
    ]
    ranks = first.inputs[1]
    assert ranks is not None and ranks.name in crossing, "a choice is made by computed ranks"
    return Seam(tuple(crossing), ranks.name)


def cut(model: ir.Model, seam: Seam) -> tuple[ir.Model, ir.Model]:
    """A graph as two, one to run after the other.

    Args:
        model: without branches, with its shapes; left as it is.
        seam: of the graph that it was made from.

    Returns:
        From `image` to `state` and `active`, and from `state` to the outputs; each with what it needs and nothing else.
    """
    enter, rest = (ir.from_proto(ir.to_proto(model)) for _ in range(2))
    _leave(enter.graph, seam)
    _resume(rest.graph, seam)
    for part in (enter, rest):
        common.RemoveUnusedNodesPass()(part)
        strip_notes(part)
    return enter, rest


def force_active(enter: ir.Model, mask: np.ndarray, chosen: str) -> None:
    """Make other tokens active than the router says, in place: what every later stage can be tried with.

    Args:
        enter: of `stages`, in any precision.
        mask: N truth values, for every image.
        chosen: what `chosen_tokens` found in fp32.
    """
    value = _by_name(enter.graph)[chosen]
    batch = shape_of(enter.graph.inputs[0])[0]
    to = Builder("forced")
    value.replace_all_uses_with(to.constant(np.tile(mask, (batch, 1)), np.bool_))
    for constant in to.constants:
        enter.graph.register_initializer(constant)
    common.RemoveUnusedNodesPass()(enter)


def chosen_tokens(enter: ir.Model) -> str:
    """The name of the truth values, B x N, by which the first stage, in fp32, says what is active."""
    value = next(output for output in enter.graph.outputs if output.name == ACTIVE)
    for op_type in ("Sub", "ReduceSum", "Cast", "GreaterOrEqual", "Pad", "Where"):  # CLS is put first by the Pad
        node = value.producer()
        assert node is not None and node.op_type == op_type, f"active tokens are counted by {op_type}"
        before = node.inputs[0]
        assert before is not None, f"a {op_type} has something to work on"
        value = before
    return str(value.name)


def _leave(graph: ir.Graph, seam: Seam) -> None:
    """Make the state and the number of active tokens the outputs."""
    values = _by_name(graph)
    to, batch = Builder("leave"), shape_of(graph.inputs[0])[0]
    rows = []
    for name in seam.crossing:
        value = values[name]
        number = value if value.dtype == ir.DataType.FLOAT else to.op("Cast", value, to=ir.DataType.FLOAT)
        rows.append(to.op("Reshape", number, to.constant([batch, -1])))
    ranked = to.op("GreaterOrEqual", values[seam.ranks], to.constant(0.0, _numpy(values[seam.ranks])))
    with_cls = to.op("ReduceSum", to.op("Cast", ranked, to=ir.DataType.INT32), to.constant([1]), keepdims=0)
    state, active = to.op("Concat", *rows, axis=1), to.op("Sub", with_cls, to.constant(1, np.int32))
    size = sum(math.prod(shape_of(values[name])[1:]) for name in seam.crossing)
    _extend(graph, to)
    graph.outputs[:] = [
        _described(state, STATE, ir.DataType.FLOAT, (batch, size)),
        _described(active, ACTIVE, ir.DataType.INT32, (batch,)),
    ]


def _resume(graph: ir.Graph, seam: Seam) -> None:
    """Make the state the input, from which every value that crossed the cut is taken back."""
    values = _by_name(graph)
    batch = shape_of(graph.inputs[0])[0]
    crossed = [values[name] for name in seam.crossing]
    sizes = [math.prod(shape_of(value)[1:]) for value in crossed]
    state = _described(ir.Value(), STATE, ir.DataType.FLOAT, (batch, sum(sizes)))
    first, end = graph[0], 0
    # A piece for each value, and no Split into all: some budgets have no use for some, and OpenVINO wants every output.
    for number, (value, size) in enumerate(zip(crossed, sizes, strict=True)):
        to = Builder(f"{RESUME}/{number}")
        start, end = end, end + size
        restored = to.op("Slice", state, *(to.constant([bound]) for bound in (start, end, 1)))
        restored = to.op("Reshape", restored, to.constant(shape_of(value)))
        if value.dtype != ir.DataType.FLOAT:
            restored = to.op("Cast", restored, to=value.dtype)
        if value in graph.outputs:
            restored.shape, restored.type = value.shape, value.type
            restored.name, value.name = value.name, f"{value.name}/before"
        value.replace_all_uses_with(restored, replace_graph_outputs=True)
        for constant in to.constants:
            graph.register_initializer(constant)
        graph.insert_before(first, to.nodes)
    graph.inputs[:] = [state]


def _by_name(graph: ir.Graph) -> dict[str, ir.Value]:
    return {str(value.name): value for node in graph for value in node.outputs}


def _numpy(value: ir.Value) -> np.dtype:
    assert value.dtype is not None, "the graph has its shapes and types"
    dtype: np.dtype = value.dtype.numpy()
    return dtype


def _extend(graph: ir.Graph, to: Builder) -> None:
    for constant in to.constants:
        graph.register_initializer(constant)
    graph.extend(to.nodes)


def _described(value: ir.Value, name: str, dtype: ir.DataType, shape: tuple[int, ...]) -> ir.Value:
    value.name, value.type, value.shape = name, ir.TensorType(dtype), ir.Shape(shape)
    return value
