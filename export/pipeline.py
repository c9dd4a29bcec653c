"""The export of a model, as a list that can be read: source model in, verified bundle out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from edgevit import strict_json
from edgevit.bundle import GOLDEN_NAME, Bundle
from edgevit.bundle_writer import check_output, write_bundle
from edgevit.errors import CheckFailed, InputError
from edgevit.manifest import Manifest, ModelRecord, ParityEvidence
from edgevit.models.deploy import default_routing, deploy, reduction_spec, routing_spec
from edgevit.models.recursive import RecursiveViT
from edgevit.models.source import ModelSource
from edgevit.models.thresholds import even_odds, with_thresholds
from edgevit.npz import pack_arrays
from edgevit.parity import Golden, Parity, compare
from edgevit.runner import Runner
from edgevit.spec import RoutingSpec, TensorSpec
from edgevit.targets import target_named

from .achieved import require_precision
from .adaptive import build_ladders, choose_rungs
from .adaptive_parts import trace_parts
from .caps import add_caps
from .check import check_graph
from .cost import count
from .finished import Graph
from .fold_constants import fold_constants
from .fuse_attention import OPSET_OF_ATTENTION, fuse_attention
from .golden import verification_inputs
from .lowered import lowered
from .name_nodes import name_new_nodes, name_nodes
from .name_thresholds import name_thresholds
from .prove_stages import OpenStages, prove_stages, served
from .reference import golden_samples
from .rows import keep_rows
from .scale_queries import scale_queries
from .settings import ExportSettings
from .shapes import with_shapes
from .share_weights import share_weights, strip_notes
from .simplify import simplified
from .stages import stages
from .trace import trace

__all__ = ["Graph", "OpenGraph", "build_graph", "export_bundle"]

# ONNX bytes to a runner, not yet entered; passed in, since the exporter knows no runtime.
OpenGraph = Callable[[bytes], Runner]
_Report = Callable[[str], None]
_LAZY_BRANCHES: tuple[str, ...] = ("ort",)  # runtimes seen to run only the branch taken
_IN_STAGES: tuple[str, ...] = ("trt", "trt-rtx")  # runtimes for which the host chooses between graphs instead


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
    source = _decided(source, settings, note or _silent)
    graph = build_graph(source, settings, say, open_graph, note)
    say("verify")
    names, images = verification_inputs(source.preprocess)
    golden = golden_samples(source.module, graph.routing, names, images)
    parity, runtime = None, ""
    if settings.verify:
        parity, runtime = _verified(graph, golden, settings, open_graph, open_stages)
        if graph.rests and note is not None:
            counts = served(graph, images, open_graph)
            note(f"on the golden inputs {_shares(counts)}; each budget was also run filled to its last token")
    files = {}
    state = output.with_name(f".{output.name}.ranges.npz")  # what an interrupted export goes on from
    if settings.precision != "fp32":
        say(f"lower to {settings.precision}")
        try:
            graph, lowering = lowered(graph, source, settings, golden, open_graph, say, note or _silent, state)
        except CheckFailed:  # there is nothing to go on with, as there is after an interrupt
            state.unlink(missing_ok=True)
            raise
        parity, runtime = lowering.golden, f"{runtime}, {settings.precision} emulated"
        files["precision.json"] = strict_json.encode(lowering)
    say("write the bundle")
    files |= graph.files | {GOLDEN_NAME: pack_arrays(golden.to_arrays())}
    if parity is not None:
        files["parity.json"] = strict_json.encode(parity)
    bundle = write_bundle(output, _manifest(source, settings, graph, parity, runtime), files, force=force)
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
    source = _decided(source, settings, _silent)
    routing = _routing(source, settings, note or _silent)
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
    cost, ladders = None, None
    if adaptive and _staged(settings):
        return _in_stages(model, source, adaptive, settings, say)
    if adaptive:
        say("build the ladders")
        routing, cost, ladders = build_ladders(model, source, adaptive, settings, open_graph, say)
    if routing is not None and routing.selection == "threshold":
        name_thresholds(model, routing.thresholds)
    if adaptive and routing is not None:
        add_caps(model, routing, trace=settings.trace)
        cost = dataclasses.replace(cost, nodes=model.graph.num_nodes()) if cost is not None else None
    if settings.precision == "fp32":
        _suit(model, settings)
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
        cost=cost or count(shaped),
        ladders=ladders,
    )


def _suit(model: ir.Model, settings: ExportSettings) -> None:
    """Write attention and linears as the target's runtime runs them best. Lower precisions rewrite both themselves."""
    target = target_named(settings.target)
    if target.attention == "fused-op" and settings.opset_version >= OPSET_OF_ATTENTION:
        fuse_attention(model)
    if target.layout == "rows":
        keep_rows(model)


def _in_stages(
    model: ir.Model, source: ModelSource, routing: RoutingSpec, settings: ExportSettings, say: _Report
) -> Graph:
    """The stages of a graph of `trace_parts`, every rule held; there is no such device here to time budgets on."""
    say("build the stages")
    routing, cost, ladders = choose_rungs(model, source, routing, settings, None, say, once=True)
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


def _staged(settings: ExportSettings) -> bool:
    """Whether adaptive routing is for the host to dispatch, between graphs."""
    return target_named(settings.target).runtime in _IN_STAGES


def _decided(source: ModelSource, settings: ExportSettings, note: _Report) -> ModelSource:
    """The source with the thresholds that were asked for, or that stand for none where the rule needs some."""
    model, thresholds = source.module, settings.thresholds
    if not isinstance(model, RecursiveViT) or model.config.router != "expert_choice":
        if thresholds is not None:
            raise InputError("thresholds are for an expert-choice router, which this model has not; leave them out")
        return source
    by_threshold = settings.routing == "adaptive" or settings.selection == "threshold"
    if thresholds is None and by_threshold and model.config.thresholds is None:
        thresholds = even_odds(model)
        note(
            f"{source.name} has no calibrated thresholds: a step takes the patches that its router finds more likely "
            "than not; edgevit calibrate sets others"
        )
    return source if thresholds is None else dataclasses.replace(source, module=with_thresholds(model, thresholds))


def _routing(source: ModelSource, settings: ExportSettings, note: _Report) -> RoutingSpec | None:
    """How the graph routes: as asked for, or as model and target suggest."""
    target = target_named(settings.target)
    branches = target.runtime in _LAZY_BRANCHES
    mode = settings.routing or default_routing(source.module, settings.selection, branches=branches)
    routing = routing_spec(source.module, mode, settings.selection)
    rule = None if routing is None else routing.selection
    if settings.thresholds is not None and rule != "threshold":
        raise InputError(
            f"--thresholds with --routing {mode}, which takes a fixed count; use --routing adaptive, or mask with "
            "--selection threshold"
        )
    if settings.calibration_data is not None and mode != "adaptive" and settings.precision == "fp32":
        raise InputError(
            f"--calibration-data chooses rungs and ranges, and an export in fp32 as {mode} has neither; leave it out"
        )
    calibrated = isinstance(source.module, RecursiveViT) and source.module.config.thresholds is not None
    if calibrated and settings.routing is None and rule == "top-k" and settings.selection is None:
        note(
            f"{source.name} follows the picture by its thresholds; for {target.name} it becomes {mode} with a fixed "
            f"count, another rule: --routing {'adaptive' if _staged(settings) else 'mask --selection threshold'} keeps "
            "its own"
        )
    if mode == "adaptive" and settings.precision != "fp32" and not branches:
        raise InputError(
            f"--precision {settings.precision} with --routing adaptive for target {target.name}; there use --routing "
            "mask, or topk for expert choice"
        )
    if mode == "adaptive" and _staged(settings):
        if settings.precision != "fp32":
            raise InputError(
                f"--precision {settings.precision} with --routing adaptive for target {target.name}, whose stages are "
                "in fp32; use --routing mask, or topk for expert choice"
            )
    elif mode == "adaptive" and not branches:
        raise InputError(
            f"--routing adaptive for target {target.name}, where an If may cost all its branches; use --routing mask, "
            "or topk for expert choice"
        )
    if mode != "adaptive" and settings.budgets is not None:
        raise InputError(f"--budgets are the rungs of --routing adaptive, this export is {mode}; leave them out")
    return routing


def _shorter(model: ir.Model) -> ir.Model:
    candidate = simplified(model)
    if candidate is None:
        return model
    name_new_nodes(candidate)
    strip_notes(candidate)
    share_weights(candidate)
    return candidate


def _verified(
    graph: Graph, golden: Golden, settings: ExportSettings, open_graph: OpenGraph, open_stages: OpenStages | None
) -> tuple[Parity, str]:
    """Run the artefact, not the module, against the reference; the parity and what ran it."""
    runner = open_graph(graph.onnx)
    if graph.rests:
        assert open_stages is not None, "whoever exports for a runtime without branches says what joins the stages"
        runner = prove_stages(graph, golden.images, settings, open_graph, open_stages)
    with runner:
        parity = compare(
            golden,
            runner,
            settings.atol,
            settings.rtol,
            tokens=graph.reduction.tokens[-1] if graph.reduction is not None else None,
        )
        facts = runner.facts
    if not parity.passed:
        more = f" (and {len(parity.faults) - 1} more faults)" if len(parity.faults) > 1 else ""
        raise CheckFailed(
            f"the exported graph does not answer as its source: {parity.faults[0]}{more}; no bundle written"
        )
    return parity, " ".join(str(facts[key]) for key in ("runtime", "version", "provider") if key in facts)


def _manifest(
    source: ModelSource, settings: ExportSettings, graph: Graph, parity: Parity | None, runtime: str
) -> Manifest:
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


def _shares(counts: Mapping[int, int]) -> str:
    """`3 runs took budget 0, 15 runs took budget 64`."""
    return ", ".join(f"{runs} runs took budget {budget}" for budget, runs in counts.items() if runs)


def _spec(value: ir.Value) -> TensorSpec:
    assert value.shape is not None, "check_graph lets no graph through without shapes"
    assert value.dtype is not None, "a traced value has a type"
    shape = tuple(int(side) for side in value.shape)  # type: ignore[arg-type]
    return TensorSpec(str(value.name), value.dtype.numpy().name, shape)


def _silent(step: str) -> None:
    """Nobody is listening."""
