"""Caps of an adaptive graph: at most so many of the tokens that a step's rule takes go on, those of highest score.

The caps are initializers, N each, so that a graph out of the exporter drops nothing. Whoever loads it can put others in
their place, which is how a latency is promised. A runtime that folds constants finds no work left where a cap is N.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgevit.levers import cap_name, level_name
from edgevit.spec import RoutingSpec

from .products import shape_of
from .rung import Builder

__all__ = ["DROPPED", "add_caps"]

DROPPED = "dropped"


def add_caps(model: ir.Model, routing: RoutingSpec, *, trace: bool = True) -> None:
    """Give every step of an adaptive graph that has more than one rung a cap, in place.

    A token that a cap leaves out is frozen from there on, as if its score had not passed. Of equal scores the lowest
    index stays, so that a step goes on with exactly as many tokens as it may.

    A cap is the initializer `cap[r]` (int64 scalar, steps count from 0). Under token choice the depth that the router
    has to choose for a step becomes an initializer too, `level[r]`: what a threshold is under expert choice.

    Args:
        model: what `build_ladders` left. Its weights are not to be shared again: caps are equal numbers that are not
            the same.
        routing: of the graph, `adaptive`.
        trace: whether the tokens left out become an output, `dropped`: int32 B x R.
    """
    graph = model.graph
    steps = _selections(graph)
    assert len(steps) == len(routing.budgets), "one selection for each step after the first"
    dropped: dict[int, ir.Value] = {}
    for step, (selection, rungs) in enumerate(zip(steps, routing.budgets, strict=True), start=1):
        active, gate = selection.inputs[:2]
        assert active is not None and gate is not None, "a Where has three sides"
        if routing.router == "token_choice":
            _name_level(graph, active, step)
        if len(rungs) == 1:
            continue  # fewer tokens would take no less time
        left_out = _capped(graph, active, _score(gate), step, routing.tokens)
        if trace:
            dropped[step] = left_out
    if dropped:
        _show(graph, dropped, routing.steps)


def _selections(graph: ir.Graph) -> list[ir.Node]:
    """The node of each step after the first that ranks its tokens: active ones by their gates, the others behind them.

    It is told by its use: CLS is put before the ranks by a Pad, and no other choice is padded.
    """
    padded = [node.inputs[0] for node in graph if node.op_type == "Pad"]
    producers = [value.producer() for value in padded if value is not None]
    return [node for node in producers if node is not None and node.op_type == "Where"]


def _score(gate: ir.Value) -> ir.Value:
    """What tokens are ranked by: the router's raw logits under expert choice, which a sigmoid would round to equal."""
    node = gate.producer()
    if node is None or node.op_type != "Sigmoid":
        return gate
    logits = node.inputs[0]
    assert logits is not None, "a Sigmoid has an input"
    return logits


def _capped(graph: ir.Graph, active: ir.Value, score: ir.Value, step: int, tokens: int) -> ir.Value:
    """Put the tokens that the cap leaves in the place of the active ones, B x N; how many it leaves out, B x 1."""
    shape = (shape_of(graph.inputs[0])[0], tokens)
    cap = _initializer(graph, cap_name(step), np.array(tokens, np.int64))
    uses = list(active.uses())
    to = Builder(f"cap[{step}]")
    branches = {"then_branch": _best(active, score, cap, shape), "else_branch": _all(active, shape, step)}
    within: list[ir.Value] = to.op("If", to.op("Less", cap, to.constant(tokens)), outputs=2, **branches)
    for value, of in zip(within, branches["then_branch"].outputs, strict=True):
        value.type, value.shape = of.type, of.shape
    for constant in to.constants:
        graph.register_initializer(constant)
    for node, place in uses:
        node.replace_input_with(place, within[0])
    nodes = list(graph)
    graph.insert_after(max(_producer(active), _producer(score), key=nodes.index), to.nodes)
    return within[1]


def _best(active: ir.Value, score: ir.Value, cap: ir.Value, shape: tuple[int, int]) -> ir.Graph:
    """The active tokens of highest score, as many as the cap allows."""
    to = Builder(f"{cap.name}<N")
    all_tokens = to.constant([shape[1]])
    ranked = to.op("Where", active, score, to.constant(np.finfo(np.float32).min, np.float32))
    _, order = to.op("TopK", ranked, all_tokens, outputs=2, axis=1, largest=1, sorted=1)
    _, place = to.op("TopK", order, all_tokens, outputs=2, axis=1, largest=0, sorted=1)  # of each token in that order
    kept = to.op("And", active, to.op("Less", place, cap))
    before, after = (
        to.op("ReduceSum", to.op("Cast", which, to=ir.DataType.INT32), to.constant([1]), keepdims=1)
        for which in (active, kept)
    )
    return _graph(to, kept, to.op("Sub", before, after), shape)


def _all(active: ir.Value, shape: tuple[int, int], step: int) -> ir.Graph:
    """Every active token: nothing is left to compute."""
    to = Builder(f"{cap_name(step)}=N")
    nobody = to.constant(np.zeros((shape[0], 1)), np.int32)
    return _graph(to, to.op("Identity", active), to.op("Identity", nobody), shape)


def _graph(of: Builder, kept: ir.Value, left_out: ir.Value, shape: tuple[int, int]) -> ir.Graph:
    """A branch: no inputs of its own, the tokens that stay and how many do not."""
    kept.shape, kept.type = ir.Shape(shape), ir.TensorType(ir.DataType.BOOL)
    left_out.shape, left_out.type = ir.Shape((shape[0], 1)), ir.TensorType(ir.DataType.INT32)
    return ir.Graph([], [kept, left_out], nodes=of.nodes, initializers=of.constants, name=of.place)


def _name_level(graph: ir.Graph, active: ir.Value, step: int) -> None:
    """Make the depth that a step asks of the router an initializer of its own."""
    node = _producer(active)
    if node.op_type == "And":  # with those of the step before
        deeper = node.inputs[1]
        assert deeper is not None, "an And has two sides"
        node = _producer(deeper)
    old = node.inputs[1]
    assert node.op_type == "GreaterOrEqual" and old is not None and old.const_value is not None, "a depth is compared"
    assert old.const_value.numpy().item() == step, "in the order of the steps"
    node.replace_input_with(1, _initializer(graph, level_name(step), np.array(step, np.int64)))


def _initializer(graph: ir.Graph, name: str, value: np.ndarray) -> ir.Value:
    made = ir.Value(
        name=name,
        shape=ir.Shape(value.shape),
        type=ir.TensorType(ir.DataType.from_numpy(value.dtype)),
        const_value=ir.tensor(value, name=name),
    )
    graph.register_initializer(made)
    return made


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None, f"{value.name} is computed"
    return node


def _show(graph: ir.Graph, dropped: Mapping[int, ir.Value], steps: int) -> None:
    """Make the tokens left out an output, B x R: 0 where a step has no cap."""
    to = Builder(DROPPED)
    batch = shape_of(graph.inputs[0])[0]
    nobody = to.constant(np.zeros((batch, 1)), np.int32)
    value: ir.Value = to.op("Concat", *(dropped.get(step, nobody) for step in range(steps)), axis=1)
    value.name, value.type = DROPPED, ir.TensorType(ir.DataType.INT32)
    value.shape = ir.Shape((batch, steps))
    for constant in to.constants:
        graph.register_initializer(constant)
    graph.extend(to.nodes)
    graph.outputs.append(value)
