"""The branches of an adaptive graph: each step after the first becomes a choice, by `If`, among its rungs."""

from __future__ import annotations

from collections.abc import Sequence

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
    x, ranks = node.inputs
    assert x is not None, "a step is given its tokens"
    assert ranks is not None, "and their ranks"
    shape, cls_alone = node.attributes["shape"].as_ints(), bool(node.attributes["cls_alone"].as_int())
    result = (shape[0], 1, shape[2]) if cls_alone else shape
    if len(rungs) == 1:
        return build_rung(to, body, x, ranks, shape, rungs[0], cls_alone=cls_alone)
    # Active tokens and CLS, of the image that has most of them.
    active = to.op("Cast", to.op("GreaterOrEqual", ranks, to.constant(0.0, "float32")), to=ir.DataType.INT64)
    counts = to.op("ReduceSum", active, to.constant([1]), keepdims=0)
    most = to.op("ReduceMax", counts, to.constant([0]), keepdims=0)
    fits = [to.op("LessOrEqual", most, to.constant(1 + k)) for k in rungs[:-1]]

    def rung(number: int) -> ir.Graph:
        inner = Builder(f"{to.place}@{rungs[number]}")
        return _graph(inner, build_rung(inner, body, x, ranks, shape, rungs[number], cls_alone=cls_alone), result)

    def choice(outer: Builder, fit: ir.Value, then: ir.Graph, other: ir.Graph) -> ir.Value:
        node = ir.node("If", [fit], {"then_branch": then, "else_branch": other})
        outer.append(node, f"{outer.place}/If")
        value: ir.Value = node.outputs[0]
        return value

    lowest, middle, top = 0, range(1, len(rungs) - 1), len(rungs) - 1
    if not middle:
        return choice(to, fits[lowest], rung(lowest), rung(top))
    # The middle rungs stand side by side, each passing on what came before it: ONNX Runtime packs weights ahead of time
    # in branches of the graph alone, not in branches of branches, and a product over few tokens is twice as fast with
    # its weights packed. The lowest and the top rung lie one deeper, because they gain nothing by a packed copy: next
    # to none of the time there is spent on packing.
    after: ir.Value | None = None
    for number in middle:
        taken = to.op("And", fits[number], to.op("Not", fits[number - 1]))
        before = Builder(f"{to.place}<{rungs[number]}")
        if after is None and cls_alone:
            passed = before.op("Slice", x, *(before.constant([bound]) for bound in (0, 1, 1)))
        else:
            passed = before.op("Identity", after or x)
        after = choice(to, taken, rung(number), _graph(before, passed, result))
    assert after is not None, "there are rungs in the middle"
    ends = Builder(f"{to.place}|ends")
    ends_graph = _graph(ends, choice(ends, fits[lowest], rung(lowest), rung(top)), result)
    between = Builder(f"{to.place}|between")
    passed_on = _graph(between, between.op("Identity", after), result)
    inside = to.op("And", fits[top - 1], to.op("Not", fits[lowest]))
    return choice(to, inside, passed_on, ends_graph)


def _graph(of: Builder, output: ir.Value, shape: Sequence[int]) -> ir.Graph:
    """A branch: no inputs of its own, one output."""
    output.shape, output.type = ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
    return ir.Graph([], [output], nodes=of.nodes, initializers=of.constants, name=of.place)
