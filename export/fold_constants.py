"""Compute once, at export, what would be computed from weights alone at every run."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnxscript import optimizer

__all__ = ["fold_constants"]

_NO_LIMIT = 2**62


def fold_constants(model: ir.Model) -> None:
    """Fold transposes of weights and whatever else the optimizer folds, in place.

    The exporter leaves the transpose of a weight that several unrolled steps use as a node, since folding it for
    each use would store the weight as often. Here every use folds to the same bytes and `share_weights` makes
    them one again. A transpose at run time would cost each step; it also hides the weight from a quantizer.
    """
    optimizer.fold_constants(
        model,
        input_size_limit=_NO_LIMIT,
        output_size_limit=_NO_LIMIT,
        should_fold=lambda node: True if node.op_type == "Transpose" else None,
    )
    optimizer.remove_unused_nodes(model)
    # A folded transpose is a view of the weight; whoever hashes or writes it wants rows that follow each other.
    for value in model.graph.initializers.values():
        if value.const_value is not None and not value.const_value.numpy().flags.c_contiguous:
            value.const_value = ir.tensor(np.ascontiguousarray(value.const_value.numpy()), name=value.name)
