"""Store each weight once, and only what the graph needs beside it: the last pass, since any other may copy a weight."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

__all__ = ["share_weights", "strip_notes"]


def share_weights(model: ir.Model) -> None:
    """Merge initializers of equal type, shape and bytes, and drop unused ones, in place."""
    ir.passes.Sequential(
        common.RemoveUnusedNodesPass(),
        common.DeduplicateHashedInitializersPass(),
        common.RemoveUnusedOpsetsPass(),
    )(model)


def strip_notes(model: ir.Model) -> None:
    """Drop metadata, doc strings and the shapes of inner values, in place.

    The exporter writes stack traces with paths of the machine into every node. Runtimes infer inner shapes
    themselves, and stale ones make ONNX Runtime's quantizer fail.
    """
    common.ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
    model.producer_name = "edgevit"
    model.producer_version = None
    model.graph.name = "edgevit"
    outputs = set(model.graph.outputs)
    for node in model.graph:
        for value in node.outputs:
            if value not in outputs:
                value.shape = None
                value.type = None
