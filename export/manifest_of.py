"""What a bundle says of the graph that was made for it."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from typing import Any

import torch

from edgevit import strict_json
from edgevit.manifest import Manifest, ModelRecord, ParityEvidence
from edgevit.models.source import ModelSource
from edgevit.parity import Parity

from .finished import Graph
from .settings import ExportSettings

__all__ = ["manifest_of"]


def manifest_of(
    source: ModelSource, settings: ExportSettings, graph: Graph, parity: Parity | None, runtime: str
) -> Manifest:
    """The manifest of an export, its files left out.

    Args:
        source: of the model.
        settings: of the export.
        graph: finished.
        parity: how it compares with its source; None if it was not compared.
        runtime: what ran it to compare; empty if nothing did.
    """
    config: Any = getattr(source.module, "config", None)
    return Manifest(
        name=source.name,
        model=ModelRecord(
            source=source.name,
            config=strict_json.plain(config) if dataclasses.is_dataclass(config) else {},
            parameters=sum(parameter.numel() for parameter in source.module.parameters()),
            checkpoint_sha256=source.checkpoint_sha256 or None,
        ),
        routing=graph.routing,
        reduction=graph.reduction,
        input=graph.input,
        outputs=graph.outputs,
        preprocess=source.preprocess,
        labels=source.labels,
        target=settings.target,
        opset=settings.opset_version,
        precision_requested=settings.precision,
        precision_achieved=graph.precision,
        parity=None if parity is None else ParityEvidence.of(parity, f"torch {torch.__version__} fp32", runtime),
        cost=strict_json.plain(graph.cost) | ({"ladders": strict_json.plain(graph.ladders)} if graph.ladders else {}),
        versions={name: version(name) for name in ("edgevit", "torch", "onnx", "onnx-ir", "onnxscript", "onnxsim")},
    )
