"""Attention scores scaled after their product: the factor goes to the queries, as TensorRT fuses it."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

__all__ = ["scale_queries"]


class _Scaling(NamedTuple):
    """A node that multiplies or divides the result of a product, which nobody else reads, by one number."""

    node: ir.Node
    product: ir.Node
    factor: ir.Value


def scale_queries(model: ir.Model) -> None:
    """Scale q instead of q k^T wherever a Softmax reads scores scaled by one constant number, masked or not.

    softmax(s (q k^T) + mask) becomes softmax((s q) k^T + mask): the same but for rounding, an operation on a smaller
    tensor, and in fp16 no overflow before the factor. Needs constants folded.
    """
    for node in list(model.graph.all_nodes()):
        scores = node.inputs[0] if node.op_type == "Softmax" else None
        masked = scores.producer() if scores is not None else None
        # A mask may stand on either side of its sum.
        candidates = masked.inputs if masked is not None and masked.op_type == "Add" else (scores,)
        for scaling in filter(None, map(_scaling, candidates)):
            _move(scaling)


def _scaling(value: ir.Value | None) -> _Scaling | None:
    """What made a value, if it is such a node."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type not in ("Mul", "Div"):
        return None
    orders = [(0, 1), (1, 0)] if node.op_type == "Mul" else [(0, 1)]
    for of, by in orders:
        scores, factor = node.inputs[of], node.inputs[by]
        product = scores.producer() if scores is not None else None
        if product is None or product.op_type != "MatMul" or factor is None or factor.const_value is None:
            continue
        alone = len(product.outputs[0].uses()) == 1 and not product.outputs[0].is_graph_output()
        if alone and factor.const_value.size == 1:
            return _Scaling(node, product, factor)
    return None


def _move(scaling: _Scaling) -> None:
    node, product, factor = scaling
    queries, scores, result = product.inputs[0], product.outputs[0], node.outputs[0]
    assert queries is not None and product.graph is not None and node.graph is not None, "a product has operands"
    scaled = ir.node(node.op_type, [queries, factor])
    scaled.outputs[0].shape, scaled.outputs[0].type = queries.shape, queries.type
    scaled.metadata_props.update(node.metadata_props)  # nodes are named after what they were traced from
    product.graph.insert_before(product, scaled)
    product.replace_input_with(0, scaled.outputs[0])
    result.replace_all_uses_with(scores)
    node.graph.remove(node, safe=True)
