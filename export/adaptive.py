"""From the parts of an adaptive graph to the graph: choose the rungs of each step, build them, count what they cost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgevit.models.recursive import RecursiveViT
from edgevit.models.source import ModelSource
from edgevit.runner import Runner
from edgevit.spec import RoutingSpec

from .cost import Cost, count
from .forms import suit
from .ladder import ladder
from .observe import fullest_of_batches, observed_counts
from .rungs import best_rungs, completed, interpolated, smoothed
from .settings import ExportSettings
from .shapes import with_shapes
from .share_weights import share_weights

__all__ = ["ChosenBy", "Ladders", "Rung", "build_ladders", "choose_rungs", "settled"]

ChosenBy = Literal["default", "given", "measured time", "counted FLOPs"]
_TURNS, _ROUNDS = 3, 8


@dataclass(frozen=True)
class Rung:
    """One rung of one step.

    Attributes:
        step: 0-based, 1 or more.
        patches: it holds.
        flops: of the step in this rung.
        share: of the calibration runs that took it; None where there were none.
    """

    step: int
    patches: int
    flops: int
    share: float | None


@dataclass(frozen=True)
class Ladders:
    """How the rungs of a graph were chosen, and what they cost.

    Attributes:
        chosen_by: what decided: nobody, the caller, or the least expected cost on the calibration images.
        images: that the expectation is over; 0 without calibration images.
        curve: the cost of one step at some numbers of patches, above that of a step with none: milliseconds, as a
            line through what was measured, or FLOPs, as `chosen_by` says; empty where nothing was chosen by it.
        rungs: of every step, rising.
    """

    chosen_by: ChosenBy
    images: int
    curve: tuple[tuple[int, float], ...]
    rungs: tuple[Rung, ...]


def build_ladders(
    model: ir.Model,
    source: ModelSource,
    routing: RoutingSpec,
    settings: ExportSettings,
    open_graph: Callable[[bytes], Runner] | None,
    say: Callable[[str], None],
    note: Callable[[str], None],
) -> tuple[RoutingSpec, Ladders]:
    """Give each step its rungs, in place of the model's open branches.

    Args:
        model: of `trace_parts`, with its nodes named and its weights shared; the finished graph afterwards.
        source: of the model.
        routing: what `routing_spec` gave.
        settings: of the export.
        open_graph: makes the runner that rungs are timed on; None to go by FLOPs.
        say: told what needs time.
        note: told what was decided for the caller.

    Returns:
        The routing with the rungs chosen, and what is known of them.

    Raises:
        InputError: as `choose_rungs`.
    """
    routing, _, ladders = choose_rungs(model, source, routing, settings, open_graph, say, note)
    ladder(model, routing.budgets)
    share_weights(model)
    return routing, ladders


def choose_rungs(
    model: ir.Model,
    source: ModelSource,
    routing: RoutingSpec,
    settings: ExportSettings,
    open_graph: Callable[[bytes], Runner] | None,
    say: Callable[[str], None],
    note: Callable[[str], None],
    *,
    once: bool = False,
) -> tuple[RoutingSpec, Cost, Ladders]:
    """Decide the rungs of each step; the model is left as it is.

    Args:
        model: of `trace_parts`, with its nodes named and its weights shared.
        source: of the model.
        routing: what `routing_spec` gave.
        settings: of the export.
        open_graph: makes the runner that rungs are timed on; None to go by FLOPs.
        say: told what needs time.
        note: told what was decided for the caller.
        once: whether the second step decides for the later ones too, so that all take as many patches as it does.

    Returns:
        The routing with the rungs chosen; the cost of the worst case, in which every step takes its last rung; and
        what is known of the rungs.

    Raises:
        InputError: a rung beyond the tokens, or calibration images that cannot be read.
    """
    chosen_by: ChosenBy = "default"
    curve: tuple[tuple[int, float], ...] = ()
    counts = None
    if settings.calibration_data is not None:
        say("count active patches on the calibration images")
        assert isinstance(source.module, RecursiveViT), "nothing else is routed"
        counts = observed_counts(
            source.module, routing, source.preprocess, settings.calibration_data, settings.calibration_samples
        )
        if once:
            counts = np.broadcast_to(counts[:, :1], counts.shape)
    if settings.budgets == "auto" and counts is not None:
        say("choose the rungs")
        chosen_by = "counted FLOPs" if open_graph is None else "measured time"
        curve = _curve(model, routing, settings, open_graph)
        if open_graph is not None:
            curve = smoothed(curve, [_step_flops(model, routing, k) for k, _ in curve])
        prices, runs = interpolated(curve, routing.tokens), fullest_of_batches(counts, settings.batch_size)
        routing = replace(routing, budgets=tuple(best_rungs(of_step, prices) for of_step in runs.T))
    elif settings.budgets is not None and settings.budgets != "auto":
        chosen_by, rungs = "given", completed(settings.budgets, routing.tokens)
        if routing.tokens not in settings.budgets:
            note(f"a budget of all {routing.tokens} tokens was added, without which a full picture would have none")
        routing = replace(routing, budgets=(rungs,) * (routing.steps - 1))
    flops = {k: _step_flops(model, routing, k) for k in sorted({k for rungs in routing.budgets for k in rungs})}
    worst = count(settled(model, [routing.tokens] * (routing.steps - 1)))
    shares = _shares(routing, None if counts is None else fullest_of_batches(counts, settings.batch_size))
    rungs_of = [Rung(r, k, flops[k], shares.get((r, k))) for r, ks in enumerate(routing.budgets, start=1) for k in ks]
    images = 0 if counts is None else len(counts)
    return routing, worst, Ladders(chosen_by, images, curve, tuple(rungs_of))


def settled(model: ir.Model, rungs: Sequence[int]) -> ir.Model:
    """A copy of the parts as a graph without branches, each step in one rung, with its shapes."""
    copy = ir.from_proto(ir.to_proto(model))
    ladder(copy, [(k,) for k in rungs])
    return with_shapes(copy)


def _step_flops(model: ir.Model, routing: RoutingSpec, k: int) -> int:
    """FLOPs of the second pass through the shared stack, over `k` patches; the later ones cost the same."""
    modules = count(settled(model, [k] * (routing.steps - 1))).flops_by_module
    return sum(flops for name, flops in modules.items() if name.endswith("[1]"))


def _curve(
    model: ir.Model, routing: RoutingSpec, settings: ExportSettings, open_graph: Callable[[bytes], Runner] | None
) -> tuple[tuple[int, float], ...]:
    """What a step costs at some numbers of patches, above a step with none.

    Timed in whole graphs, each with all steps in one rung: a step alone would find other things in the caches.
    """
    tokens, later = routing.tokens, routing.steps - 1
    at = sorted({0, *(tokens // part for part in (16, 8, 4, 2, 1))})
    if open_graph is None:
        costs = [float(_step_flops(model, routing, k)) for k in at]
        return tuple((k, cost - costs[0]) for k, cost in zip(at, costs, strict=True))
    graphs = {}
    for k in at:
        graph = settled(model, [k] * later)
        suit(graph, settings)  # as it will run
        graphs[k] = ir.to_proto(graph).SerializeToString()
    # In turn and more than once, so that a busy moment of the machine does not fall on one of them alone; the quickest,
    # since whatever else the machine does can only add to it.
    times = dict.fromkeys(at, math.inf)
    for _ in range(_TURNS):
        for k, graph in graphs.items():
            times[k] = min(times[k], _milliseconds(graph, open_graph))
    return tuple((k, max(0.0, round((times[k] - times[0]) / later, 4))) for k in at)


def _milliseconds(graph: bytes, open_graph: Callable[[bytes], Runner]) -> float:
    """The quickest of a few runs, one graph loaded at a time: two would disturb each other."""
    with open_graph(graph) as runner:
        image = np.random.default_rng(0).standard_normal(runner.input.shape).astype(np.float32)
        durations = []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            runner(image)
            durations.append(time.perf_counter() - start)
    return min(durations) * 1e3


def _shares(routing: RoutingSpec, runs: np.ndarray | None) -> dict[tuple[int, int], float]:
    """The share of the runs, n x (R - 1) counts, that each rung of each step serves."""
    if runs is None:
        return {}
    shares: dict[tuple[int, int], float] = {}
    for r, (rungs, counts) in enumerate(zip(routing.budgets, runs.T, strict=True), start=1):
        places = np.searchsorted(np.array(rungs), counts)
        shares |= {(r, k): round(float((places == i).mean()), 4) for i, k in enumerate(rungs)}
    return shares
