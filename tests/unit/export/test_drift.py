from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from half_graphs import by_name, graph_of, near_tied, open_graph, pictures, routed, run

from edgevit.export.drift import Drift, drift
from edgevit.export.emulate import emulated
from edgevit.export.half import lower
from edgevit.export.islands import islands
from edgevit.export.watch_points import watched_values
from edgevit.precision_record import Rung


def lowered(model: ir.Model, *more: str) -> ir.Model:
    copy = ir.from_proto(ir.to_proto(model))
    lower(copy, "fp16", {*(island.node for island in islands(model, {}, "fp16")), *more})
    return copy


def climb(model: ir.Model, images: np.ndarray, *more: str) -> Drift:
    return drift(model, lowered(model, *more), list(images[:, None]), open_graph)


def test_the_rungs_are_the_results_of_the_parts_in_order() -> None:
    assert watched_values(routed()) == [("blocks.0", "x"), ("blocks.1", "y"), ("head", "logits")]


def test_an_error_is_the_norm_of_the_difference_over_that_of_the_reference() -> None:
    model, images = routed(), pictures()
    found = climb(model, images)
    made = emulated(lowered(model))
    exact, rounded = ([run(graph, image[None])["logits"] for image in images] for graph in (model, made))
    wanted = np.linalg.norm(np.subtract(rounded, exact)) / np.linalg.norm(exact)
    assert found.rungs[-1].part == "head"
    assert found.rungs[-1].error == pytest.approx(wanted)
    assert all(0 < (rung.error or 0) < 0.01 for rung in found.rungs)
    assert found.first_offender is None


def test_a_graph_that_is_the_reference_does_not_drift() -> None:
    model = routed()
    every = {str(node.name) for node in model.graph}
    found = climb(model, pictures(), *every)
    assert {rung.error for rung in found.rungs} == {0.0}
    assert [(score.error, score.flipped) for score in found.scores] == [(0.0, 0)]


def test_a_planted_overflow_of_a_variance_is_found_in_its_block() -> None:
    """As in a LayerNorm taken apart, a square: that of 300 leaves fp16."""
    found = climb(routed(), pictures(scale=500))
    offender = found.first_offender
    assert offender is not None
    assert (offender.part, offender.overflowed, offender.error) == ("blocks.1", True, None)
    assert not climb(routed(), pictures(scale=10)).rungs[1].overflowed


def test_a_planted_near_tie_is_found_at_its_router_and_later_blocks_are_not_blamed() -> None:
    model = routed()
    images = np.concatenate([pictures(), near_tied(model)[None]])
    found = climb(model, images)
    (score,) = found.scores
    assert (score.node, score.flipped, score.runs) == ("routers.0/TopK", 1, 5)
    assert score.margin is not None
    assert score.error is not None
    assert score.margin < score.error
    assert [rung.runs for rung in found.rungs] == [5, 4, 5]  # what went another way is no drift of the block after it


def test_margins_are_those_of_the_scores_on_either_side() -> None:
    body = "flat = Flatten(image)  [best] logits, index = TopK(flat, k)"
    ends = "(float[1,3,1,2] image) => (float[1,2] logits, int64[1,2] index)"
    model = graph_of(body, {"k": np.array([2])}, ends)
    image = np.array([1, 9, 4, 5, 0, 10], np.float32).reshape(1, 1, 3, 1, 2)
    (score,) = drift(model, lowered(model), list(image), open_graph).scores
    assert score.margin == pytest.approx((9 - 5) / 10)


def test_a_threshold_has_the_margin_of_the_nearest_score() -> None:
    body = "flat = Flatten(image)  [over] taken = Greater(flat, t)  logits = Where(taken, flat, t)"
    ends = "(float[1,3,1,2] image) => (float[1,6] logits)"
    model = graph_of(body, {"t": np.array(4.5, np.float32)}, ends)
    image = np.array([1, 9, 4, 5.5, 0, 10], np.float32).reshape(1, 1, 3, 1, 2)
    (score,) = drift(model, lowered(model), list(image), open_graph).scores
    assert score.margin == pytest.approx(0.5 / 10)


def test_single_values_can_be_watched() -> None:
    model = routed()
    found = drift(model, lowered(model), list(pictures()[:, None]), open_graph, only=["mixed", "moved"])
    assert [(rung.part, rung.value) for rung in found.rungs] == [("blocks.0", "mixed"), ("blocks.1", "moved")]


def rung(part: str, error: float | None, overflowed: bool = False) -> Rung:
    return Rung(part, f"value of {part}", error, 3, overflowed)


def test_the_first_jump_is_the_offender_and_slow_growth_is_none() -> None:
    slow = [rung("a", 0.001), rung("b", 0.002), rung("c", 0.006)]
    assert Drift(tuple(slow), ()).first_offender is None
    assert Drift((*slow, rung("d", 0.1), rung("e", 0.9)), ()).first_offender == rung("d", 0.1)
    assert Drift((rung("a", 1e-6), rung("b", 1e-4)), ()).first_offender is None  # a jump, to what is next to nothing


def test_an_overflow_before_a_jump_is_the_offender() -> None:
    found = Drift((rung("a", 0.001), rung("b", None, True), rung("c", 0.5)), ())
    assert found.first_offender == rung("b", None, True)


def test_the_steepest_adds_the_most_to_the_error() -> None:
    found = Drift((rung("a", 0.001), rung("b", None), rung("c", 0.01), rung("d", 0.013)), ())
    assert found.steepest == rung("c", 0.01)
    assert Drift((rung("a", None),), ()).steepest is None


def test_the_graphs_given_are_not_changed() -> None:
    model = routed()
    low = lowered(model)
    before = [ir.to_proto(graph).SerializeToString() for graph in (model, low)]
    drift(model, low, list(pictures()[:, None]), open_graph)
    assert [ir.to_proto(graph).SerializeToString() for graph in (model, low)] == before
    assert by_name(model, "routers.0/TopK")
