"""The stages of an adaptive graph in the precision that the whole was proved in.

Each budget is joined with the first stage, lowered by the recipe of the largest budget, which computes all tokens, and
cut again. The first stage is that of the largest budget, so that it is one for all; the state is float32 in any
precision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.agreement import agree, judge
from edgevit.errors import CheckFailed
from edgevit.parity import Golden, Parity, run_golden
from edgevit.precision_record import PrecisionReport
from edgevit.runner import Runner

from .achieved import require_precision
from .check import check_graph
from .cost import count
from .emulate import emulated
from .finished import Graph
from .prove_stages import OpenStages, spread_tokens
from .recipe import Recipe
from .rejoin import rejoined
from .shapes import with_shapes
from .stages import chosen_tokens, cut, force_active

__all__ = ["lowered_stages"]

_OpenGraph = Callable[[bytes], Runner]


def lowered_stages(
    graph: Graph,
    recipe: Recipe,
    report: PrecisionReport,
    golden: Golden,
    open_graph: _OpenGraph,
    open_stages: OpenStages,
) -> tuple[Graph, PrecisionReport]:
    """Lower every stage, and prove the whole and each budget.

    Args:
        graph: in stages, in fp32.
        recipe: by which the largest budget answers as fp32 does.
        report: of that.
        golden: inputs and outputs of the source model.
        open_graph: makes the runner of a stage.
        open_stages: makes one runner of them.

    Raises:
        CheckFailed: a stage breaks a rule, is mostly of another precision, or answers otherwise.
    """
    assert graph.routing is not None, "stages are of a routed graph"
    whole: dict[int, ir.Model] = {}
    rests: dict[int, ir.Model] = {}
    before = _model(graph.onnx)
    for budget, rest in sorted(graph.rests.items()):
        flat, seam = rejoined(before, _model(rest))
        whole[budget] = recipe.made(flat).model
        enter, rests[budget] = cut(with_shapes(whole[budget]), seam)
    for part in (enter, *rests.values()):
        check_graph(with_shapes(part))
        require_precision(part, recipe.precision)
    runners = {budget: open_graph(_bytes(emulated(rest))) for budget, rest in rests.items()}
    with open_stages(open_graph(_bytes(emulated(enter))), runners) as runner:
        on_golden = agree(golden, runner, recipe.precision, tokens=graph.routing.tokens)
    faults = list(on_golden.faults)
    for budget in sorted(rests)[:-1]:
        forced = _model(_bytes(enter))
        force_active(forced, spread_tokens(budget, graph.routing.tokens), chosen_tokens(before))
        faults += _against_largest(budget, forced, rests, golden, recipe, open_graph, open_stages).faults
    if faults:
        raise CheckFailed(
            f"{recipe.precision} in stages does not answer as fp32: {faults[0]}; export with another precision"
        )
    lower = dataclasses.replace(
        graph,
        onnx=_bytes(enter),
        rests={budget: _bytes(rest) for budget, rest in rests.items()},
        precision=recipe.precision,
        cost=count(with_shapes(whole[max(whole)])),
    )
    return lower, dataclasses.replace(report, golden=on_golden)


def _against_largest(
    budget: int,
    enter: ir.Model,
    rests: Mapping[int, ir.Model],
    golden: Golden,
    recipe: Recipe,
    open_graph: _OpenGraph,
    open_stages: OpenStages,
) -> Parity:
    """What a full budget answers, beside the largest one."""
    forced, tokens = _bytes(emulated(enter)), max(rests)
    full, small = (
        _answers(open_stages(open_graph(forced), {tokens: open_graph(_bytes(emulated(rests[k])))}), golden)
        for k in (tokens, budget)
    )
    reference = Golden(
        golden.names, golden.images, full["logits"], full.get("depth"), assignment=full.get("assignment")
    )
    return judge(reference, small, recipe.precision, tokens=tokens)


def _answers(runner: Runner, golden: Golden) -> dict[str, np.ndarray]:
    with runner:
        return run_golden(golden.images, runner, None)


def _model(onnx_bytes: bytes) -> ir.Model:
    return ir.from_proto(onnx.load_from_string(onnx_bytes))


def _bytes(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString(deterministic=True)
