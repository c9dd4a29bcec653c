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
    choices = [node for node in copy.graph if node.op_type == "If"]
    last = dict(_rung(node) for node in choices)  # a step's rungs rise, so that its last one is what stays
    for node in choices:
        step, patches = _rung(node)
        # No other rung is taken and no cap holds: tokens are passed on as they are.
        taken = "then_branch" if step and patches == last[step] else "else_branch"
        _inline(node, node.attributes[taken].as_graph())
    whole = ir.from_proto(ir.to_proto(copy))  # in which nothing is used by a branch that is gone
    common.RemoveUnusedNodesPass()(whole)
    for node in whole.graph:
        node.name = without_rung(node.name)
        for value in node.outputs:
            value.name = without_rung(value.name)
    return whole


def _rung(choice: ir.Node) -> tuple[str, int]:
    """The step, as `ladder[1]`, and the patches of the rung that a choice is about; no step of what is no rung."""
    step, _, patches = str(choice.attributes["then_branch"].as_graph().name).partition("@")
    return (step, int(patches)) if patches else ("", 0)


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
