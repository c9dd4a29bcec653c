"""Attention as the one operator of opset 23 in the place of the nodes it is written out in.

On ONNX Runtime's CPU a model is 2 to 8 % quicker by it, since q, k and v are neither scaled, transposed nor kept in
passes of their own; `benchmarks/suites/forms.py` measures it. TensorRT fuses the written-out form instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from .placing import Placing, drop_unused
from .shapes import Shape, known_shapes

__all__ = ["OPSET_OF_ATTENTION", "fuse_attention"]

OPSET_OF_ATTENTION = 23

_HEADS_FIRST = (0, 2, 1, 3)
_LAST_TWO = (0, 1, 3, 2)


@dataclass(frozen=True)
class _Found:
    """An attention over q, k and v that come out of one linear side by side.

    Attributes:
        packed: q, k and v: B x L x 3D, or in rows, (B L) x 3D.
        split: what takes them apart, heads in a dimension of their own.
        scale: of the scores.
        mask: added to the scores; None for none.
        result: B x L x H x d, the heads side by side again.
    """

    packed: ir.Value
    split: ir.Node
    scale: float
    mask: ir.Value | None
    result: ir.Value


def fuse_attention(model: ir.Model) -> None:
    """Let one node do each attention whose q, k and v are the thirds of one linear, in place; others stay as they are.

    One token alone attends to itself, whatever its scores: there the values are taken and nothing is computed.

    Args:
        model: finished, of opset 23 or later.
    """
    shapes = known_shapes(model)
    placings = [_fuse(graph, shapes) for graph in model.graphs()]
    drop_unused(model)
    for to in placings:
        to.name()


def _fuse(graph: ir.Graph, shapes: Mapping[str, Shape]) -> Placing:
    to = Placing(graph, "attention")
    masks: dict[ir.Value, ir.Value] = {}
    for softmax in [node for node in graph if node.op_type == "Softmax"]:
        found = _found(softmax)
        if found is None:
            continue
        thirds_of = {shapes.get(str(value.name)) for value in found.split.outputs}
        shape = thirds_of.pop()
        if thirds_of or shape is None or len(shape) != 4 or not _spreads(found.mask, shapes):
            continue
        batch, heads, length, size = shape
        to.before(softmax)
        beside = to.constant([batch, length, 3 * heads * size])
        packed = to.op("Reshape", found.packed, beside)
        if length == 1:
            bounds = (to.constant([number]) for number in (2 * heads * size, 3 * heads * size, 2))
            attended = to.op("Slice", packed, *bounds)
        else:
            thirds = to.ops("Split", 3, packed, axis=2, num_outputs=3)
            mask = () if found.mask is None else (_square(to, found.mask, length, shapes, masks),)
            attended = to.op(
                "Attention",
                *thirds,
                *mask,
                q_num_heads=heads,
                kv_num_heads=heads,
                scale=found.scale,
            )
        _put(to, attended, found.result, [batch, length, heads, size])
    return to


def _put(to: Placing, attended: ir.Value, result: ir.Value, by_heads: list[int]) -> None:
    """Let B x L x D stand for B x L x H x d, which as a rule is only reshaped."""
    for node, place in list(result.uses()):
        if node.op_type == "Reshape":
            node.replace_input_with(place, attended)
    if result.uses() or result.is_graph_output():
        apart = to.op("Reshape", attended, to.constant(by_heads))
        result.replace_all_uses_with(apart, replace_graph_outputs=True)


def _square(
    to: Placing,
    mask: ir.Value,
    length: int,
    shapes: Mapping[str, Shape],
    masks: dict[ir.Value, ir.Value],
) -> ir.Value:
    """The mask with a row for each query, which ONNX Runtime wants though the rows are the same; made once."""
    if mask not in masks:
        shape = shapes[str(mask.name)]
        batch, heads = (1, 1, 1, 1, *shape)[-4:-2]
        whole = (batch, heads, length, length)
        masks[mask] = mask if shape == whole else to.op("Expand", mask, to.constant(list(whole)))
    return masks[mask]


def _spreads(mask: ir.Value | None, shapes: Mapping[str, Shape]) -> bool:
    """Whether it is known how a mask spreads over the scores; of none there is nothing to know."""
    return mask is None or len(shapes.get(str(mask.name), (0,) * 5)) <= 4


def _found(softmax: ir.Node) -> _Found | None:
    """The attention around a Softmax; None if it is written out in another way, or something else reads its scores."""
    if softmax.attributes.get_int("axis", -1) not in (-1, 3):
        return None
    scores, mask = _parts_of_sum(softmax.inputs[0])
    queries, keys = _operands(scores, "MatMul")
    queries, scale = _scaled(queries)
    (keys,) = _operands(keys, "Transpose", _LAST_TWO)
    weighed = _only_user(softmax.outputs[0], "MatMul")
    values = None if weighed is None else weighed.inputs[1]
    turned = None if weighed is None else _only_user(weighed.outputs[0], "Transpose")
    split = None if queries is None else queries.producer()
    if turned is None or not _turns(turned, _HEADS_FIRST) or split is None or split.op_type != "Split":
        return None
    if [queries, keys, values] != list(split.outputs) or split.attributes.get_int("axis", 0) != 1:
        return None
    (laid_out,) = _operands(split.inputs[0], "Transpose", _HEADS_FIRST)
    packed, _ = _operands(laid_out, "Reshape")
    if packed is None:
        return None
    return _Found(packed, split, scale, mask, turned.outputs[0])


def _parts_of_sum(value: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None]:
    """Scores and mask, on whichever sides of their sum they stand; a value itself where nothing is added."""
    left, right = _operands(value, "Add")
    if left is None or right is None:
        return value, None
    maker = left.producer()
    return (left, right) if maker is not None and maker.op_type == "MatMul" else (right, left)


def _scaled(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    left, right = _operands(value, "Mul")
    if right is None or right.const_value is None or right.const_value.size != 1:
        return value, 1.0
    return left, float(right.const_value.numpy().item())


def _operands(value: ir.Value | None, op_type: str, turn: tuple[int, ...] | None = None) -> tuple[ir.Value | None, ...]:
    """Inputs of the node that made a value which nobody else reads; as many times None if it is no such node."""
    node = value.producer() if value is not None else None
    inputs = 1 if op_type == "Transpose" else 2
    if value is None or node is None or node.op_type != op_type or len(value.uses()) != 1:
        return (None,) * inputs
    if turn is not None and not _turns(node, turn):
        return (None,) * inputs
    return tuple(node.inputs[:inputs])


def _turns(node: ir.Node, turn: tuple[int, ...]) -> bool:
    return tuple(node.attributes.get_ints("perm", ())) == turn


def _only_user(value: ir.Value, op_type: str) -> ir.Node | None:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and uses[0].node.op_type == op_type else None
