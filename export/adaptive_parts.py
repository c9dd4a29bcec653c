"""What an adaptive graph is put together from: the model and, beside it in the same trace, each step on its own.

A step is traced once, over a number of tokens that occurs nowhere else, and is then freed of that number, so that the
same nodes do for every rung.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from torch import Tensor

from edgevit.models.deploy import Deployed
from edgevit.models.recursive import RecursiveViT

from .trace import trace

__all__ = ["StepBody", "cut_bodies", "trace_parts"]

# A prime, so that it is no product of a model's sizes, and more tokens than a ladder is likely to have.
_LENGTH = 1009
_INPUTS = ("step_tokens", "step_hidden")


class _Parts(Deployed):
    """A deployed model and its steps after the first, each an output of its own."""

    def __init__(self, deployed: Deployed) -> None:
        recursive = deployed.model
        assert isinstance(recursive, RecursiveViT), "nothing else is routed"
        self._steps = range(1, recursive.config.recursions)
        self._answer = deployed.output_names
        super().__init__(recursive, deployed.route, (*self._answer, *map(_output, self._steps)))

    def forward(self, image: Tensor, tokens: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        outcome = self.route(image)
        answer = [getattr(outcome, name) for name in self._answer]
        return *answer, *(self.model.step(tokens, r, hidden) for r in self._steps)  # type: ignore[operator]


def trace_parts(deployed: Deployed, image_shape: tuple[int, int, int, int], opset: int) -> ir.Model:
    """Trace a model deployed as `adaptive`, for `cut_bodies` and `ladder` to put together.

    Raises:
        InputError: torch cannot trace or translate it.
    """
    assert isinstance(deployed.model, RecursiveViT), "nothing else is routed"
    batch, tokens, hidden = image_shape[0], *_INPUTS
    more = {tokens: (batch, _LENGTH, deployed.model.config.width), hidden: (batch, 1, 1, _LENGTH)}
    return trace(_Parts(deployed), image_shape, opset, more)


@dataclass(frozen=True)
class StepBody:
    """One recursion step, over any number of tokens.

    Attributes:
        step: its number, 0-based.
        tokens: its input B x L x D.
        hidden: its input B x 1 x 1 x L, what is added to attention logits.
        after: its output B x L x D.
        nodes: from those to this, in order.
    """

    step: int
    tokens: ir.Value
    hidden: ir.Value
    after: ir.Value
    nodes: tuple[ir.Node, ...]


def cut_bodies(model: ir.Model) -> dict[int, StepBody]:
    """Take the steps out of a graph of `trace_parts`, in place; by their number, 0-based.

    The weights stay where they are: initializers of the graph.
    """
    graph = model.graph
    by_name = {value.name: value for value in (*graph.inputs, *graph.outputs)}
    tokens, hidden = (by_name[name] for name in _INPUTS)
    bodies: dict[int, StepBody] = {}
    for value in list(graph.outputs):
        if value.name is not None and value.name.startswith(_output("")):
            step = int(value.name.removeprefix(_output("")))
            nodes = _between(value, {tokens, hidden})
            _free_of_length(nodes)
            bodies[step] = StepBody(step, tokens, hidden, value, nodes)
            graph.outputs.remove(value)
    # Steps with equal norms may have become one, or share their first nodes.
    graph.remove(dict.fromkeys(node for body in bodies.values() for node in body.nodes))
    for value in (tokens, hidden):
        graph.inputs.remove(value)
    return bodies


def _output(step: int | str) -> str:
    return f"step_after_{step}"


def _between(after: ir.Value, inputs: set[ir.Value]) -> tuple[ir.Node, ...]:
    """Every node that the value depends on, in the order of the graph."""
    found: set[ir.Node] = set()
    wanted = [after]
    while wanted:
        value = wanted.pop()
        node = value.producer()
        if node is None or node in found:
            assert node or value in inputs or value.const_value is not None, f"a step reads {value.name}"
            continue
        found.add(node)
        wanted += [value for value in node.inputs if value is not None]
    last = after.producer()
    assert last is not None, "a step computes something"
    assert last.graph is not None, "and is part of the graph"
    return tuple(node for node in last.graph if node in found)


def _free_of_length(nodes: tuple[ir.Node, ...]) -> None:
    """Put -1 for the traced number of tokens where a Reshape names it, in place; nothing else may depend on it."""
    for node in nodes:
        for place, value in enumerate(node.inputs):
            if value is None or value.const_value is None or not value.const_value.dtype.is_integer():
                continue
            numbers = value.const_value.numpy()
            of_length = (numbers != 0) & (numbers % _LENGTH == 0)
            if not of_length.any():
                continue
            assert node.op_type == "Reshape" and of_length.sum() == 1, f"{node.name} depends on the number of tokens"
            freed = np.where(of_length, -1, numbers)
            node.replace_input_with(place, ir.Value(name=value.name, const_value=ir.tensor(freed)))
        for attribute in node.attributes.values():
            of_attribute = np.atleast_1d(attribute.value) if attribute.type in _INTEGERS else np.zeros(1)
            assert not ((of_attribute != 0) & (of_attribute % _LENGTH == 0)).any(), f"{node.name}: {attribute.name}"


_INTEGERS = (ir.AttributeType.INT, ir.AttributeType.INTS)
