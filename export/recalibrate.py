"""The forms of a finished graph that new thresholds are found and proved with."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir

from .fullest import fullest
from .name_thresholds import score_of, set_thresholds

__all__ = ["recalibrated", "score_output"]


def score_output(step: int) -> str:
    """The output with the router logits of a step, B x N float32; steps count from 0, and the first has none."""
    return f"score[{step}]"


def recalibrated(graph: bytes, thresholds: Sequence[float], *, scores: bool = False, last_rungs: bool = False) -> bytes:
    """A graph under other thresholds.

    Args:
        graph: of a bundle that selects by threshold.
        thresholds: for the steps after the first.
        scores: whether the router logits become outputs.
        last_rungs: whether every step of an adaptive graph runs over all its tokens, the others hidden, as under
            `mask`: slow, and the reference for the rungs.

    Raises:
        KeyError: the graph has no thresholds by name.
    """
    model = ir.from_proto(onnx.load_from_string(graph))
    set_thresholds(model, thresholds)
    if scores:
        for step in range(1, 1 + len(thresholds)):
            _show(model, score_of(model, step), score_output(step))
    if last_rungs:
        model = fullest(model)
    return ir.to_proto(model).SerializeToString(deterministic=True)


def _show(model: ir.Model, value: ir.Value, name: str) -> None:
    """Make a value an output too, under a name of its own."""
    shown = ir.node("Identity", [value], outputs=[ir.Value(name=name)], name=name)
    shown.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    shown.outputs[0].shape = ir.Shape(model.graph.outputs[1].shape or ())  # that of `depth`
    model.graph.append(shown)
    model.graph.outputs.append(shown.outputs[0])
