"""Prove every budget of a graph in stages, each filled to its last token.

How many tokens a golden input takes is not for anybody to choose, so that it may enter few of the budgets. Each is
therefore also run with as many active tokens as it holds, wherever the router would have looked, and compared with the
largest budget on the same state, which no count can leave out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.bundle import ACTIVE
from edgevit.errors import CheckFailed
from edgevit.parity import run_golden
from edgevit.runner import Runner

from .finished import Graph
from .settings import ExportSettings
from .stages import chosen_tokens, force_active

__all__ = ["OpenStages", "prove_stages", "served", "spread_tokens"]

# The runners of the first stage and of the rest by budget, not yet entered, as one.
OpenStages = Callable[[Runner, Mapping[int, Runner]], Runner]

_TIED_TOKENS = 2  # of an image, whose scores two graphs may round to either side of a threshold
_TIED_IMAGES = 1 / 4


def prove_stages(
    graph: Graph,
    images: np.ndarray,
    settings: ExportSettings,
    open_graph: Callable[[bytes], Runner],
    open_stages: OpenStages,
) -> Runner:
    """Compare each budget with the largest.

    Args:
        graph: in stages.
        images: n x 3 x H x W float32.
        settings: of the export, for its tolerances.
        open_graph: makes the runner of a stage.
        open_stages: makes one runner of them.

    Returns:
        The whole, not yet entered, for the caller to compare with its source.

    Raises:
        CheckFailed: a budget answers otherwise than the largest one.
    """
    assert graph.routing is not None, "stages are of a routed graph"
    tokens = graph.routing.tokens
    for budget, rest in graph.rests.items():
        if budget == tokens:
            continue
        enter = ir.from_proto(onnx.load_from_string(graph.onnx))
        force_active(enter, spread_tokens(budget, tokens), chosen_tokens(enter))
        forced = ir.to_proto(enter).SerializeToString()
        full, small = (
            _answers(open_stages(open_graph(forced), {tokens: open_graph(onnx_bytes)}), images)
            for onnx_bytes in (graph.rests[tokens], rest)
        )
        _compare(budget, full, small, settings)
    return open_stages(open_graph(graph.onnx), {k: open_graph(rest) for k, rest in graph.rests.items()})


def spread_tokens(active: int, tokens: int) -> np.ndarray:
    """So many active tokens of all, as truth values, spread evenly."""
    mask = np.zeros(tokens, bool)
    mask[np.linspace(0, tokens - 1, active).round().astype(int)] = True
    return mask


def served(graph: Graph, images: np.ndarray, open_graph: Callable[[bytes], Runner]) -> dict[int, int]:
    """How many of the batches that images, n x 3 x H x W, make each budget serves."""
    with open_graph(graph.onnx) as enter:
        batch = enter.input.shape[0]
        active = run_golden(images, enter, None)[ACTIVE]
    fullest = [int(active[start : start + batch].max()) for start in range(0, len(active), batch)]
    taken = Counter(min(budget for budget in graph.rests if budget >= most) for most in fullest)
    return {budget: taken[budget] for budget in graph.rests}


def _answers(runner: Runner, images: np.ndarray) -> dict[str, np.ndarray]:
    with runner:
        return run_golden(images, runner, None)


def _compare(budget: int, full: dict[str, np.ndarray], small: dict[str, np.ndarray], settings: ExportSettings) -> None:
    """Hold the answers of a budget against those of the largest one.

    Where a later step takes another token or two its score was a near-tie. More of them, or near-ties in many images,
    are a fault of the budget.

    Raises:
        CheckFailed: they differ.
    """
    others = np.zeros(len(full["logits"]), int)
    if "depth" in full:
        others = (full["depth"] != small["depth"]).sum(axis=1)
    alike = others == 0
    difference = np.abs(full["logits"] - small["logits"])[alike]
    allowed = settings.atol + settings.rtol * np.abs(full["logits"][alike])
    tied = len(alike) - int(alike.sum())
    # Said this way round, a logit that is no number is a difference.
    if not (difference <= allowed).all() or others.max() > _TIED_TOKENS or tied > _TIED_IMAGES * len(alike):
        raise CheckFailed(
            f"the graph for {budget} tokens does not answer as the one for all of them: logits differ by "
            f"{difference.max(initial=0):.2e}, {tied} of {len(alike)} inputs in up to {others.max()} of the tokens "
            "taken; no bundle written"
        )
