"""New nodes and constants in a graph or a branch that is there already, named after the module they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

__all__ = ["Placing", "drop_unused"]


class Placing:
    """Puts nodes before another one of their graph.

    Constants go into the same graph, a branch's into the branch: shapes are inferred there without a look at the
    numbers outside.

    Args:
        graph: the main graph or a branch.
        purpose: what the nodes are for, of which constants are named.
    """

    def __init__(self, graph: ir.Graph, purpose: str) -> None:
        self._graph = graph
        self._purpose = purpose
        self._anchor: ir.Node | None = None
        self._placed: list[tuple[ir.Node, str]] = []
        self._constants: dict[tuple[int, ...], ir.Value] = {}

    def before(self, node: ir.Node) -> None:
        """From here on put everything before this node, and name it after this node's module and rung."""
        self._anchor = node

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """The output of a new node."""
        (value,) = self.ops(op_type, 1, *inputs, **attributes)
        return value

    def ops(self, op_type: str, outputs: int, *inputs: ir.Value | None, **attributes: Any) -> tuple[ir.Value, ...]:
        """The outputs of a new node."""
        anchor = self._anchor
        assert anchor is not None, "first say where"
        # A name of its own for now: that of the node it replaces is free when that is gone.
        node = ir.node(op_type, list(inputs), attributes, num_outputs=outputs)
        node.name = self._temporary(len(self._placed))
        for index, value in enumerate(node.outputs):
            value.name = f"{node.name}:{index}"
        self._graph.insert_before(anchor, node)
        self._placed.append((node, _named_after(anchor, op_type)))
        return tuple(node.outputs)

    def constant(self, numbers: list[int]) -> ir.Value:
        """An int64 initializer of these numbers, the same for equal ones."""
        key = tuple(numbers)
        if key not in self._constants:
            name = f"{self._graph.name}/{self._purpose}_{len(self._constants)}"
            array = np.array(numbers, np.int64)
            value = ir.Value(
                name=name,
                shape=ir.Shape(array.shape),
                type=ir.TensorType(ir.DataType.INT64),
                const_value=ir.tensor(array, name=name),
            )
            self._graph.register_initializer(value)
            self._constants[key] = value
        return self._constants[key]

    def name(self) -> None:
        """Give what was put in, as far as it is still there, the names that are free by now."""
        placed = {node for node, _ in self._placed}
        taken = {node.name for node in self._graph if node not in placed}
        # A node that stands for one that is gone has its value's name, which no other's may become.
        temporary = {f"{node.name}:{index}" for node in placed for index in range(len(node.outputs))}
        kept = [value for node in placed if node.graph is not None for value in node.outputs]
        taken |= {str(value.name).rpartition(":")[0] for value in kept if value.name not in temporary}
        for node, wanted in self._placed:
            if node.graph is None:
                continue
            stem, at, rung = wanted.partition("@") if "@" in wanted.rpartition("/")[2] else (wanted, "", "")
            name, number = wanted, 0
            while name in taken:
                number += 1
                name = f"{stem}_{number}{at}{rung}"
            taken.add(name)
            for index, value in enumerate(node.outputs):
                if value.name == f"{node.name}:{index}":  # or it stands for one whose name it took
                    value.name = f"{name}:{index}"
            node.name = name

    def _temporary(self, number: int) -> str:
        return f"{self._graph.name}/{self._purpose}#{number}"


def _named_after(node: ir.Node, op_type: str) -> str:
    """The name of a node of another kind that belongs to the same module, and to the same rung."""
    module, _, own = str(node.name).rpartition("/")
    _, at, rung = own.partition("@")
    return f"{module}/{op_type}{at}{rung}"


def drop_unused(model: ir.Model) -> None:
    """Remove nodes that nothing reads, in branches too, and constants that only they read."""
    for graph in reversed(list(model.graphs())):  # branches before what they read
        for node in reversed(graph):
            if not any(value.uses() or value.is_graph_output() for value in node.outputs):
                graph.remove(node, safe=True)
    for graph in model.graphs():
        for name, value in list(graph.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                del graph.initializers[name]
