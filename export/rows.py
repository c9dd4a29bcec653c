"""Tokens as the rows of one matrix, (B L) x C, wherever what is done to them is done to each by itself.

A product of B x L x C with a weight costs ONNX Runtime's CPU two reshapes and an addition of its own beside the matrix
product; of rows it is one Gemm. Only what looks at several tokens of an image at once, attention, needs them apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx_ir as ir

from .placing import Placing, drop_unused
from .shapes import Shape, known_shapes

__all__ = ["keep_rows"]

_EACH_NUMBER = ("Gelu", "Relu", "Sigmoid", "Tanh", "Erf")
_TOGETHER = ("Add", "Sub", "Mul")
_UNKNOWN: Shape = (-1,)


def keep_rows(model: ir.Model) -> None:
    """Let norms, linears, activations and residual sums work on rows, in place.

    Args:
        model: finished; its weights stay as they are.
    """
    shapes = known_shapes(model)
    rewritten = _Rows(model.graph, shapes, {})
    rewritten.rewrite()
    drop_unused(model)
    rewritten.name()


class _Rows:
    """One graph or branch.

    Args:
        graph: changed in place.
        shapes: of all values, by their names; those of new rows are added.
        rows: values of three dimensions that stand as rows too, in the graphs around this one.
    """

    def __init__(self, graph: ir.Graph, shapes: dict[str, Shape], rows: Mapping[ir.Value, ir.Value]) -> None:
        self._graph = graph
        self._shapes = shapes
        self._rows = dict(rows)
        self._to = Placing(graph, "rows")
        self._branches: list[_Rows] = []

    def rewrite(self) -> None:
        for node in list(self._graph):
            self._to.before(node)
            if node.op_type == "If":
                for branch in (node.attributes["then_branch"], node.attributes["else_branch"]):
                    self._branches.append(_Rows(branch.as_graph(), self._shapes, self._rows))
                    self._branches[-1].rewrite()
            elif node.op_type == "Reshape":
                self._reshape(node)
            elif node.op_type == "MatMul":
                self._linear(node)
            elif node.op_type == "LayerNormalization" and node.attributes.get_int("axis", -1) in (-1, 2):
                self._on_rows(node, 1, axis=-1)
            elif node.op_type in _EACH_NUMBER and node.inputs[0] in self._rows:
                self._on_rows(node, 1)
            elif node.op_type in _TOGETHER and self._alike(node) and any(value in self._rows for value in node.inputs):
                self._on_rows(node, 2)
            elif node.op_type == "Concat" and self._follow_each_other(node):
                self._on_rows(node, len(node.inputs), axis=0)

    def name(self) -> None:
        """Name what is new, in branches too."""
        self._to.name()
        for branch in self._branches:
            branch.name()

    def _shape(self, value: ir.Value | None) -> Shape:
        """Of what is left out, or is not known, a shape that nothing here is done to."""
        return _UNKNOWN if value is None else self._shapes.get(str(value.name), _UNKNOWN)

    def _alike(self, node: ir.Node) -> bool:
        """Whether it takes two numbers of the same token each, or one of them and one for the whole token."""
        *result, channels = self._shape(node.outputs[0]) or (0,)
        shapes = [self._shape(value) for value in node.inputs]
        return len(result) == 2 and all(shape in ((*result, channels), (*result, 1)) for shape in shapes)

    def _follow_each_other(self, node: ir.Node) -> bool:
        """Whether tokens of one image are put behind others of it."""
        one = all(len(shape) == 3 and shape[0] == 1 for shape in map(self._shape, node.inputs))
        return one and node.attributes.get_int("axis", 0) == 1 and any(value in self._rows for value in node.inputs)

    def _of(self, value: ir.Value) -> ir.Value:
        """The rows of a value."""
        if value not in self._rows:
            shape = self._shape(value)
            sides = self._to.constant([math.prod(shape[:2]), shape[2]])
            self._put(value, self._to.op("Reshape", value, sides))
        return self._rows[value]

    def _reshape(self, node: ir.Node) -> None:
        """One that makes rows, or tokens of rows, need not be done."""
        value, result = node.inputs[0], node.outputs[0]
        before, after = self._shape(value), self._shape(result)
        assert value is not None, "a Reshape has an input"
        if len(before) == 3 and after == (math.prod(before[:2]), before[2]):
            if value in self._rows and not result.is_graph_output():
                result.replace_all_uses_with(self._rows[value])
            else:
                self._rows.setdefault(value, result)
        elif len(after) == 3 and before == (math.prod(after[:2]), after[2]):
            self._rows[result] = value
        elif before == after != _UNKNOWN and not result.is_graph_output():
            result.replace_all_uses_with(value)

    def _linear(self, node: ir.Node) -> None:
        """A product with a weight, and its bias in the same Gemm."""
        value, weight = node.inputs
        if value is None or weight is None or len(self._shape(value)) != 3:
            return
        if weight.const_value is None or len(self._shape(weight)) != 2:
            return
        adding, bias = _bias_of(node)
        if adding is None or bias is None:
            self._on_rows(node, 1)
            return
        product = self._to.op("Gemm", self._of(value), weight, bias)
        self._as_tokens(adding, product)

    def _on_rows(self, node: ir.Node, tokens: int, **attributes: int) -> None:
        """Do the same to the rows of the first inputs; what comes after these is for each channel."""
        if len(self._shape(node.outputs[0])) != 3 or len(node.outputs) != 1:
            return
        inputs = [self._of(value) if value and i < tokens else value for i, value in enumerate(node.inputs)]
        kept = {name: attribute.value for name, attribute in node.attributes.items()}
        result = self._to.op(node.op_type, *inputs, **kept | attributes)
        self._as_tokens(node, result)

    def _as_tokens(self, node: ir.Node, rows: ir.Value) -> None:
        """Let rows stand for the result of a node; only who needs the images apart reads a reshape of them."""
        old = node.outputs[0]
        name, shape = old.name, self._shape(old)
        apart = self._to.op("Reshape", rows, self._to.constant(list(shape)))
        apart.shape, apart.type = old.shape, old.type
        old.replace_all_uses_with(apart, replace_graph_outputs=True)
        self._graph.remove(node, safe=True)
        apart.name = name
        self._put(apart, rows)

    def _put(self, tokens: ir.Value, rows: ir.Value) -> None:
        shape = self._shape(tokens)
        self._rows[tokens] = rows
        self._shapes[str(rows.name)] = (math.prod(shape[:2]), shape[2])


def _bias_of(product: ir.Node) -> tuple[ir.Node | None, ir.Value | None]:
    """What adds a vector to a product that nobody else reads, and the vector."""
    uses = list(product.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add" or product.outputs[0].is_graph_output():
        return None, None
    adding, place = uses[0]
    bias = adding.inputs[1 - place]
    if adding.graph is not product.graph or bias is None:
        return None, None
    if bias.const_value is None or len(bias.const_value.shape) != 1:
        return None, None
    return adding, bias
