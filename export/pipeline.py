"""The export of a model, as a list that can be read: source model in, verified bundle out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir

from edgevit import strict_json
from edgevit.bundle import GOLDEN_NAME, Bundle
from edgevit.bundle_writer import check_output, write_bundle
from edgevit.errors import CheckFailed
from edgevit.models.deploy import deploy, reduction_spec
from edgevit.models.source import ModelSource
from edgevit.npz import pack_arrays
from edgevit.runner import Runner
from edgevit.spec import RoutingSpec, TensorSpec

from .achieved import require_precision
from .adaptive import build_ladders, choose_rungs
from .adaptive_parts import trace_parts
from .caps import add_caps
from .check import check_graph
from .cost import Cost, count
from .decide import decided, in_stages, routing_of
from .finished import Graph
from .fold_constants import fold_constants
from .forms import suit
from .fullest import fullest
from .golden import verification_inputs
from .lowered import lowered
from .manifest_of import manifest_of
from .name_nodes import name_new_nodes, name_nodes
from .name_thresholds import name_thresholds
from .prove_stages import OpenStages
from .reference import golden_samples
from .scale_queries import scale_queries
from .settings import ExportSettings
from .shapes import with_shapes
from .share_weights import share_weights, strip_notes
from .simplify import simplified
from .stages import stages
from .trace import trace
from .verify import verified

__all__ = ["Graph", "OpenGraph", "build_graph", "export_bundle"]

# ONNX bytes to a runner, not yet entered; passed in, since the exporter knows no runtime.
OpenGraph = Callable[[bytes], Runner]
_Report = Callable[[str], None]


def export_bundle(
    source: ModelSource,
    settings: ExportSettings,
    output: Path,
    *,
    open_graph: OpenGraph,
    open_stages: OpenStages | None = None,
    force: bool = False,
    report: _Report | None = None,
    note: _Report | None = None,
) -> Bundle:
    """Export a model: graph, verification, bundle.

    Args:
        source: the model with what a bundle says of it.
        settings: of the export.
        output: the folder to write; it appears whole or not at all.
        open_graph: makes the runner that verifies.
        open_stages: makes one runner of those of a graph in stages; needed to verify such a graph alone.
        force: whether an existing bundle at `output` is replaced.
        report: told the name of each step as it begins.
        note: told in one line whatever was decided for the caller and may be worth another choice.

    Raises:
        InputError: `output` exists, the settings do not fit the model, or the model cannot be traced.
        CheckFailed: the graph breaks a rule, or the artefact answers differently; nothing is written then.
    """
    say = report or _silent
    check_output(output, force=force)
    source = decided(source, settings, note or _silent)
    graph = build_graph(source, settings, say, open_graph, note)
    say("verify")
    names, images = verification_inputs(source.preprocess)
    golden = golden_samples(source.module, graph.routing, names, images)
    parity, runtime = None, ""
    if settings.verify:
        parity, runtime = verified(graph, golden, settings, open_graph, open_stages, note or _silent)
    files = {}
    state = output.with_name(f".{output.name}.ranges.npz")  # what an interrupted export goes on from
    if settings.precision != "fp32":
        say(f"lower to {settings.precision}")
        try:
            graph, lowering = lowered(
                graph, source, settings, golden, open_graph, say, note or _silent, state, open_stages
            )
        except CheckFailed:  # there is nothing to go on with, as there is after an interrupt
            state.unlink(missing_ok=True)
            raise
        parity, runtime = lowering.golden, f"{runtime}, {settings.precision} emulated"
        files["precision.json"] = strict_json.encode(lowering)
    say("write the bundle")
    files |= graph.files | {GOLDEN_NAME: pack_arrays(golden.to_arrays())}
    if parity is not None:
        files["parity.json"] = strict_json.encode(parity)
    bundle = write_bundle(output, manifest_of(source, settings, graph, parity, runtime), files, force=force)
    if settings.precision != "fp32":
        state.unlink(missing_ok=True)
    return bundle


def build_graph(
    source: ModelSource,
    settings: ExportSettings,
    report: _Report | None = None,
    open_graph: OpenGraph | None = None,
    note: _Report | None = None,
) -> Graph:
    """The graph of a model, every rule held, not yet verified.

    Args:
        source: the model.
        settings: of the export.
        report: told the name of each step as it begins.
        open_graph: makes the runner that the rungs of an adaptive graph are timed on; None to choose them by FLOPs.
        note: told in one line whatever was decided for the caller.

    Raises:
        InputError: the settings do not fit the model, or the model cannot be traced.
        CheckFailed: the graph breaks a rule.
    """
    say = report or _silent
    source = decided(source, settings, _silent)
    routing = routing_of(source, settings, note or _silent)
    adaptive = routing if routing is not None and routing.mode == "adaptive" else None
    shape = (settings.batch_size, 3, source.preprocess.height, source.preprocess.width)

    say("trace")
    deployed = deploy(source.module, routing, trace=settings.trace)
    model = (trace_parts if adaptive else trace)(deployed, shape, settings.opset_version)
    say("fold constants")
    fold_constants(model)
    scale_queries(model)
    name_nodes(model)
    strip_notes(model)
    share_weights(model)
    if settings.simplify and settings.verify:
        say("simplify")
        model = _shorter(model)
    elif settings.simplify:
        say("leave out simplify: without verification nothing shows that it does no harm")
    ladders = None
    if adaptive and in_stages(settings):
        return _in_stages(model, source, adaptive, settings, say, note or _silent)
    if adaptive:
        say("build the ladders")
        routing, ladders = build_ladders(model, source, adaptive, settings, open_graph, say, note or _silent)
    if routing is not None and routing.selection == "threshold":
        name_thresholds(model, routing.thresholds)
    if adaptive and routing is not None:
        add_caps(model, routing, trace=settings.trace)
    suit(model, settings)
    say("check")
    shaped = with_shapes(model)
    check_graph(shaped, branches=adaptive is not None)
    return Graph(
        onnx=ir.to_proto(model).SerializeToString(deterministic=True),
        input=_spec(model.graph.inputs[0]),
        outputs=tuple(_spec(value) for value in model.graph.outputs),
        routing=routing,
        reduction=reduction_spec(source.module),
        precision=require_precision(model, "fp32"),
        cost=count(shaped) if ladders is None else _worst_case(model),
        ladders=ladders,
    )


def _worst_case(model: ir.Model) -> Cost:
    """What an adaptive graph costs where every step takes all tokens."""
    return dataclasses.replace(count(with_shapes(fullest(model))), nodes=model.graph.num_nodes())


def _in_stages(
    model: ir.Model, source: ModelSource, routing: RoutingSpec, settings: ExportSettings, say: _Report, note: _Report
) -> Graph:
    """The stages of a graph of `trace_parts`, every rule held; there is no such device here to time budgets on."""
    say("build the stages")
    routing, cost, ladders = choose_rungs(model, source, routing, settings, None, say, note, once=True)
    enter, rests = stages(model, routing)
    say("check")
    for part in (enter, *rests.values()):
        check_graph(with_shapes(part))
        require_precision(part, "fp32")
    return Graph(
        onnx=ir.to_proto(enter).SerializeToString(deterministic=True),
        input=_spec(enter.graph.inputs[0]),
        outputs=tuple(_spec(value) for value in rests[routing.tokens].graph.outputs),
        routing=routing,
        reduction=reduction_spec(source.module),
        precision="fp32",
        cost=cost,
        ladders=ladders,
        rests={budget: ir.to_proto(rest).SerializeToString(deterministic=True) for budget, rest in rests.items()},
    )


def _shorter(model: ir.Model) -> ir.Model:
    candidate = simplified(model)
    if candidate is None:
        return model
    name_new_nodes(candidate)
    strip_notes(candidate)
    share_weights(candidate)
    return candidate


def _spec(value: ir.Value) -> TensorSpec:
    assert value.shape is not None, "check_graph lets no graph through without shapes"
    assert value.dtype is not None, "a traced value has a type"
    shape = tuple(int(side) for side in value.shape)  # type: ignore[arg-type]
    return TensorSpec(str(value.name), value.dtype.numpy().name, shape)


def _silent(step: str) -> None:
    """Nobody is listening."""
