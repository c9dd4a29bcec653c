"""Shapes of every value of a graph, which a finished graph does not carry."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

__all__ = ["with_shapes"]


def with_shapes(model: ir.Model) -> ir.Model:
    """A copy of the model in which ONNX's shape inference has written what it knows."""
    return common.ShapeInferencePass()(ir.from_proto(ir.to_proto(model))).model
