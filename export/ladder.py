"""The branches of an adaptive graph: each step after the first becomes a choice, by `If`, among its rungs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from .adaptive_parts import StepBody, cut_bodies
from .rung import Builder, build_rung
from .trace import SMALLEST_RUNG

__all__ = ["ladder"]


def ladder(model: ir.Model, budgets: Sequence[Sequence[int]]) -> None:
    """Put branches in the place of every `SmallestRung` of a graph of `trace_parts`, in place.

    A branch holds the nodes of its rung and no weights: those stay initializers of the graph, each stored once.

    Args:
        model: traced, its nodes named, its weights shared.
        budgets: for each step after the first the patches of its rungs, ascending, the last one N.
    """
    bodies = cut_bodies(model)
    graph = model.graph
    for node in [node for node in graph if node.domain == SMALLEST_RUNG.domain]:
        step = node.attributes["step"].as_int()
        to = Builder(f"ladder[{step}]")
        after = _climb(to, bodies[step], node, budgets[step - 1])
        for constant in to.constants:
            graph.register_initializer(constant)
        graph.insert_before(node, to.nodes)
        node.outputs[0].replace_all_uses_with(after)
        graph.remove(node, safe=True)
    for node in dict.fromkeys(node for body in bodies.values() for node in body.nodes):
        for place in range(len(node.inputs)):
            node.replace_input_with(place, None)  # or what only the originals read would count as used
    model.opset_imports.pop(SMALLEST_RUNG.domain, None)
    graph.opset_imports.pop(SMALLEST_RUNG.domain, None)


def _climb(to: Builder, body: StepBody, node: ir.Node, rungs: Sequence[int]) -> ir.Value:
    """The step `node` stands for, in the smallest of the rungs that holds the active tokens of every image."""
    x, ranks, count = node.inputs
    assert x is not None and ranks is not None and count is not None, "a step is given its tokens"
    shape, cls_alone = node.attributes["shape"].as_ints(), bool(node.attributes["cls_alone"].as_int())
    result = (shape[0], 1, shape[2]) if cls_alone else shape
    if len(rungs) == 1:
        return build_rung(to, body, x, ranks, shape, rungs[0], cls_alone=cls_alone)
    most = to.op("ReduceMax", count, to.constant([0]), keepdims=0)
    # Which rung is taken, for every number of tokens: one lookup in the place of comparisons with each rung.
    place = np.searchsorted(rungs, np.arange(rungs[-1] + 1))
    row = to.op("Gather", to.constant(place[:, None] == np.arange(len(rungs)), np.bool_), most, axis=0)
    taken = to.op("Split", row, outputs=len(rungs), axis=-1, num_outputs=len(rungs))
    # Side by side, each passing on what came before it, and none inside another: ONNX Runtime packs weights ahead of
    # time in branches of the graph alone; in branches of branches it would pack them at every product.
    after: ir.Value | None = None
    for patches, is_taken in zip(rungs, taken, strict=True):
        inner, before = Builder(f"{to.place}@{patches}"), Builder(f"{to.place}<{patches}")
        updated = build_rung(inner, body, x, ranks, shape, patches, cls_alone=cls_alone)
        if after is None and cls_alone:
            passed = before.op("Slice", x, *(before.constant([bound]) for bound in (0, 1, 1)))
        else:
            passed = before.op("Identity", after or x)
        climbed, passed_on = _graph(inner, updated, result), _graph(before, passed, result)
        after = to.op("If", is_taken, then_branch=climbed, else_branch=passed_on)
    assert after is not None, "a step has rungs"
    return after


def _graph(of: Builder, output: ir.Value, shape: Sequence[int]) -> ir.Graph:
    """A branch: no inputs of its own, one output."""
    output.shape, output.type = ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
    return ir.Graph([], [output], nodes=of.nodes, initializers=of.constants, name=of.place)
