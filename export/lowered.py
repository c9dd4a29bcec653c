"""A finished fp32 graph in the precision that was asked for, held to the same rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir

from edgevit.bundle import ENTER_NAME, GRAPH_NAME, rest_name
from edgevit.models.source import ModelSource
from edgevit.parity import Golden
from edgevit.targets import target_named

from .achieved import require_precision
from .calibration import calibration_batches, calibration_paths
from .check import check_graph
from .cost import count
from .finished import Graph
from .fullest import fullest
from .lowered_stages import lowered_stages
from .precision import with_precision
from .precision_report import PrecisionReport
from .prove_stages import OpenStages
from .ranges import OpenGraph
from .rejoin import rejoined
from .settings import ExportSettings
from .shapes import with_shapes

__all__ = ["lowered"]


def lowered(
    graph: Graph,
    source: ModelSource,
    settings: ExportSettings,
    golden: Golden,
    open_graph: OpenGraph,
    say: Callable[[str], None],
    note: Callable[[str], None],
    state: Path,
    open_stages: OpenStages | None = None,
) -> tuple[Graph, PrecisionReport]:
    """The graph in the settings' precision, and what it came to.

    Args:
        graph: in fp32, verified.
        source: of the model, for its preprocessing.
        settings: of the export; a lower precision.
        golden: inputs and outputs of the source model.
        open_graph: makes the runners that measure and judge.
        say: told how far it is, in words.
        note: told in a line what was done otherwise than asked.
        state: where partly measured ranges are kept.
        open_stages: makes one runner of those of a graph in stages.

    Raises:
        InputError: no calibration pictures where they are needed.
        CheckFailed: no graph of this precision answers as it should, or it is mostly of another.
    """
    batches = None
    if settings.calibration_data is not None:
        paths = calibration_paths(settings.calibration_data, settings.calibration_samples)
        batches = calibration_batches(paths, source.preprocess, settings.batch_size)
    parts = {name: ir.from_proto(onnx.load_from_string(part)) for name, part in graph.files.items()}
    model, report, recipe = with_precision(
        parts[GRAPH_NAME] if not graph.rests else rejoined(parts[ENTER_NAME], parts[rest_name(max(graph.rests))])[0],
        settings.precision,
        runtime=target_named(settings.target).runtime,
        golden=golden,
        open_graph=open_graph,
        batches=batches,
        tokens=graph.reduction.tokens[-1] if graph.reduction is not None else None,
        state=state,
        report=lambda done: say(f"lower to {settings.precision}, {done:.0%} done"),
        note=note,
    )
    if batches is not None:
        for line in batches.notes(settings.calibration_samples):
            note(line)
    if report.retries:
        higher = ", ".join(retry.part for retry in report.retries)
        note(f"{settings.precision} answered as fp32 only with these in a higher precision: {higher}")
    if graph.rests:
        assert open_stages is not None, "a graph in stages is verified as one"
        return lowered_stages(graph, recipe, report, golden, open_graph, open_stages)
    check_graph(with_shapes(model), branches=graph.ladders is not None)
    worst = count(with_shapes(fullest(model)))
    lower = dataclasses.replace(
        graph,
        onnx=ir.to_proto(model).SerializeToString(deterministic=True),
        precision=require_precision(model, settings.precision),
        cost=dataclasses.replace(worst, nodes=model.graph.num_nodes()),
    )
    return lower, report
