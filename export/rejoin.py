"""A graph in stages as the one graph that it was cut from, so that it can be lowered as a whole and cut again."""

from __future__ import annotations

import onnx_ir as ir

from edgevit.bundle import ACTIVE, STATE

from .stages import RESUME, Seam

__all__ = ["rejoined"]


def rejoined(enter: ir.Model, rest: ir.Model) -> tuple[ir.Model, Seam]:
    """One graph from `image` to the outputs, and where it was cut.

    Args:
        enter: of `stages`.
        rest: one of what follows it.
    """
    whole, later = (ir.from_proto(ir.to_proto(model)) for model in (enter, rest))
    seam = _seam(whole.graph)
    there = {str(value.name): value for node in whole.graph for value in node.outputs}
    for number, value in _resumed(later.graph).items():
        before = there[seam.crossing[number]]
        if value.is_graph_output():
            before.shape, before.type = value.shape, value.type
        value.replace_all_uses_with(before, replace_graph_outputs=True)
    for name, value in list(later.graph.initializers.items()):
        del later.graph.initializers[name]
        if name in whole.graph.initializers:
            same = whole.graph.initializers[name]
            assert _content(same) == _content(value), f"the stages have two {name}"
            value.replace_all_uses_with(same)
        else:
            whole.graph.register_initializer(value)
    outputs = list(later.graph.outputs)
    later.graph.outputs.clear()
    nodes = list(later.graph)
    later.graph.remove(nodes)
    for node in nodes:
        # What needs no state stands in both stages.
        if all(str(value.name) in there for value in node.outputs):
            for value in node.outputs:
                value.replace_all_uses_with(there[str(value.name)])
        elif not str(node.name).startswith(f"{RESUME}/"):
            whole.graph.append(node)
    whole.graph.outputs[:] = outputs
    # What crosses stays, also where this budget has no use for it: the graph is cut there again.
    whole.graph.remove([node for node in whole.graph if str(node.name).startswith("leave/")])
    joined = ir.from_proto(ir.to_proto(whole))  # in which nothing is used by a node that is gone
    for name, value in list(joined.graph.initializers.items()):
        if not value.uses():
            del joined.graph.initializers[name]
    return joined, seam


def _content(value: ir.Value) -> tuple[object, ...]:
    numbers = value.const_value
    assert numbers is not None, "an initializer has numbers"
    return numbers.dtype, tuple(numbers.shape), numbers.tobytes()


def _seam(enter: ir.Graph) -> Seam:
    """What crosses the cut, read off the nodes that lay it side by side and count the active tokens."""
    state, active = (next(value for value in enter.outputs if value.name == name) for name in (STATE, ACTIVE))
    crossing = []
    for row in _made_by(state).inputs:
        number = _made_by(row).inputs[0]
        assert number is not None, "a Reshape has something to work on"
        if str(_made_by(number).name).startswith("leave/"):  # cast to travel
            number = _made_by(number).inputs[0]
        assert number is not None, "a Cast has something to work on"
        crossing.append(str(number.name))
    ranks: ir.Value | None = active
    while ranks is not None and str(_made_by(ranks).name).startswith("leave/"):
        ranks = _made_by(ranks).inputs[0]
    assert ranks is not None, "what is counted is computed"
    return Seam(tuple(crossing), str(ranks.name))


def _resumed(rest: ir.Graph) -> dict[int, ir.Value]:
    """The values that the state becomes, by their place in it; this budget may have no use for some."""
    values: dict[int, ir.Value] = {}
    for use in rest.inputs[0].uses():
        number = int(str(use.node.name).split("/")[1])
        value = next(iter(use.node.outputs[0].consumers())).outputs[0]
        cast = next((node for node in value.consumers() if str(node.name).startswith(f"{RESUME}/")), None)
        values[number] = value if cast is None else cast.outputs[0]
    return values


def _made_by(value: ir.Value | None) -> ir.Node:
    node = value.producer() if value is not None else None
    assert node is not None, "what leaves the first stage is computed"
    return node
