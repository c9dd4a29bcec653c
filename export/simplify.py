"""onnxsim, kept only where it helps."""

from __future__ import annotations

import onnx_ir as ir
import onnxsim

__all__ = ["simplified"]


def simplified(model: ir.Model) -> ir.Model | None:
    """The model as onnxsim rewrites it; None where that has no fewer nodes or stores more weights.

    That the rewritten graph still answers alike is for verification to prove: without it, do not call this.
    """
    proto, converged = onnxsim.simplify(ir.to_proto(model))
    if not converged:
        return None
    candidate = ir.from_proto(proto)
    shorter = len(candidate.graph) < len(model.graph)
    return candidate if shorter and _weight_bytes(candidate) <= _weight_bytes(model) else None


def _weight_bytes(model: ir.Model) -> int:
    return sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
