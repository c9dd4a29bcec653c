"""An adaptive graph without its branches: every step in its last rung, which holds all tokens.

It answers as the adaptive graph does, computes every value that a rung computes, and runs all of its nodes every time:
what ranges are measured on, and what is compared value by value.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from .rung_names import without_rung

__all__ = ["fullest"]


def fullest(model: ir.Model) -> ir.Model:
    """A copy whose branches are all decided for the last rung, and against every cap.

    Nodes and values of a step have their names without the rung, so that they can be told of any other.

    Args:
        model: finished; one without branches comes back as a copy.
    """
    copy = ir.from_proto(ir.to_proto(model))
    while choices := [node for node in copy.graph if node.op_type == "If"]:
        for node in choices:
            # What is asked is whether fewer tokens fit or a cap holds; where nothing does, all tokens go on.
            _inline(node, node.attributes["else_branch"].as_graph())
    whole = ir.from_proto(ir.to_proto(copy))  # in which nothing is used by a branch that is gone
    common.RemoveUnusedNodesPass()(whole)
    for node in whole.graph:
        node.name = without_rung(node.name)
        for value in node.outputs:
            value.name = without_rung(value.name)
    return whole


def _inline(node: ir.Node, branch: ir.Graph) -> None:
    """Put the nodes of a branch in the place of the choice."""
    graph = node.graph
    assert isinstance(graph, ir.Graph), "a choice is part of the graph"
    for constant in list(branch.initializers.values()):
        del branch.initializers[str(constant.name)]
        graph.register_initializer(constant)
    nodes, results = list(branch), list(branch.outputs)
    branch.outputs.clear()
    branch.remove(nodes)
    graph.insert_before(node, nodes)
    for value, result in zip(node.outputs, results, strict=True):
        value.replace_all_uses_with(result, replace_graph_outputs=True)
    graph.remove(node, safe=True)
