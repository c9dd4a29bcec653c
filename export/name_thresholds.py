"""Give the thresholds of a graph names, so that they can be found and set again without a trace."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgevit.levers import threshold_name

__all__ = ["name_thresholds", "score_of", "set_thresholds"]


def name_thresholds(model: ir.Model, thresholds: Sequence[float]) -> None:
    """Make each threshold an initializer of its own, in place; the last pass, for sharing would merge equal ones.

    Args:
        model: finished, with a `Greater` for each step after the first.
        thresholds: of these steps, in order.
    """
    comparisons = [node for node in model.graph if node.op_type == "Greater" and _is_threshold(node.inputs[1])]
    assert len(comparisons) == len(thresholds), "one comparison with a constant for each step after the first"
    for step, (node, threshold) in enumerate(zip(comparisons, thresholds, strict=True), start=1):
        old = node.inputs[1]
        assert old is not None and old.const_value is not None, "looked at above"
        assert np.float32(threshold) == old.const_value.numpy().reshape(()), "in the order of the steps"
        value = ir.Value(name=threshold_name(step), const_value=ir.tensor(old.const_value.numpy().copy()))
        model.graph.register_initializer(value)
        node.replace_input_with(1, value)
        if not old.uses() and old.name is not None and old.name in model.graph.initializers:
            del model.graph.initializers[old.name]


def _is_threshold(value: ir.Value | None) -> bool:
    """Whether this is a constant float: what compares whole numbers counts steps."""
    constant = None if value is None else value.const_value
    return constant is not None and constant.dtype == ir.DataType.FLOAT and constant.size == 1


def score_of(model: ir.Model, step: int) -> ir.Value:
    """The router logits of a step, B x N float32, that its threshold is compared with.

    Raises:
        KeyError: the graph has no threshold of that name.
    """
    (use,) = model.graph.initializers[threshold_name(step)].uses()
    score = use.node.inputs[0]
    assert score is not None, "a comparison has two sides"
    return score


def set_thresholds(model: ir.Model, thresholds: Sequence[float]) -> None:
    """Put other numbers in the place of the thresholds of the steps after the first, in place.

    Raises:
        KeyError: the graph has no threshold of a step.
    """
    for step, threshold in enumerate(thresholds, start=1):
        value = model.graph.initializers[threshold_name(step)]
        assert value.const_value is not None, "an initializer has a value"
        shape = value.const_value.numpy().shape
        value.const_value = ir.tensor(np.full(shape, threshold, np.float32), name=value.name)
