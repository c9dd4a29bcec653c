"""Attention as a graph writes it out: MatMul, what is done to the scores, Softmax, MatMul."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

__all__ = ["WrittenOut", "attentions"]


@dataclass(frozen=True)
class WrittenOut:
    """One attention.

    Attributes:
        softmax: its Softmax.
        scaled_by: the Mul or Div that scales its scores; None where q or k was scaled before.
        recast: whether the scores change type on their way from the first product to the second.
    """

    softmax: ir.Node
    scaled_by: ir.Node | None
    recast: bool


def attentions(model: ir.Model) -> Iterator[WrittenOut]:
    """Every Softmax between two products, with what stands between them and it."""
    for node in model.graph.all_nodes():
        if node.op_type != "Softmax":
            continue
        before = list(_back(node))
        after = list(_forth(node))
        if any(step.op_type == "MatMul" for step in before) and any(step.op_type == "MatMul" for step in after):
            scaled_by = next((step for step in before if step.op_type in ("Mul", "Div")), None)
            yield WrittenOut(node, scaled_by, any(step.op_type == "Cast" for step in before + after))


def _back(node: ir.Node) -> Iterator[ir.Node]:
    """What made the scores, up to the product: masks are added or chosen, scores scaled, types cast."""
    for value in node.inputs:
        maker = value.producer() if value is not None else None
        if maker is None or maker.op_type not in ("MatMul", "Add", "Where", "Mul", "Div", "Cast"):
            continue
        steps = [] if maker.op_type == "MatMul" else list(_back(maker))
        # A mask is added to the scores too, and what made it is no part of them.
        if maker.op_type == "MatMul" or any(step.op_type == "MatMul" for step in steps):
            yield maker
            yield from steps


def _forth(node: ir.Node) -> Iterator[ir.Node]:
    for user in node.outputs[0].consumers():
        if user.op_type == "MatMul":
            yield user
        elif user.op_type == "Cast":
            yield user
            yield from _forth(user)
