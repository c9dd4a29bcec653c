"""Caps of adaptive graphs: against a slow reference in numpy on scores with ties, and in torch on whole models."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from edgevit.export.adaptive import build_ladders
from edgevit.export.adaptive_parts import trace_parts
from edgevit.export.caps import add_caps
from edgevit.export.check import check_graph
from edgevit.export.fold_constants import fold_constants
from edgevit.export.name_nodes import name_nodes
from edgevit.export.name_thresholds import name_thresholds
from edgevit.export.scale_queries import scale_queries
from edgevit.export.settings import ExportSettings
from edgevit.export.shapes import with_shapes
from edgevit.export.share_weights import share_weights, strip_notes
from edgevit.levers import capping, forcing
from edgevit.models import tokens
from edgevit.models.deploy import deploy, routing_spec
from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.models.routing import blend
from edgevit.models.source import ModelSource
from edgevit.preprocess import Preprocess
from edgevit.runtimes.ort import OrtRunner
from edgevit.spec import RoutingSpec

# ---- the selection alone


N = 12
ALONE = RoutingSpec(
    mode="adaptive", router="expert_choice", selection="threshold", steps=3, grid=(3, 4), thresholds=(0.0, 0.0),
    budgets=((0, 4, N), (0, 4, N)),
)  # fmt: skip


def selection(batch: int, routing: RoutingSpec = ALONE) -> bytes:
    """Scores B x 3 x 1 x N (the second and the third row are those of the steps) to ranks and tokens dropped."""
    nodes, outputs = [], []
    for step in (1, 2):
        nodes += [
            helper.make_node("Gather", ["image", f"row{step}"], [f"row_of{step}"], axis=1),
            helper.make_node("Squeeze", [f"row_of{step}", "middle"], [f"score{step}"]),
            helper.make_node("Greater", [f"score{step}", f"threshold[{step}]"], [f"passes{step}"]),
            helper.make_node("Sigmoid", [f"score{step}"], [f"gate{step}"]),
        ]
        if step == 2:
            nodes.append(helper.make_node("And", ["passes1", "passes2"], ["active2"]))
        active = "passes1" if step == 1 else "active2"
        nodes += [
            helper.make_node("Where", [active, f"gate{step}", "behind"], [f"ranked{step}"]),
            helper.make_node("Pad", [f"ranked{step}", "pads", "first"], [f"ranks{step}"]),
        ]
        outputs.append(helper.make_tensor_value_info(f"ranks{step}", TensorProto.FLOAT, (batch, N + 1)))
    constants = {
        "row1": np.array(1),
        "row2": np.array(2),
        "middle": np.array([1]),
        "behind": np.float32(-1),
        "first": np.float32(2),
        "pads": np.array([0, 1, 0, 0]),
        **{f"threshold[{step}]": np.array(routing.thresholds[step - 1], np.float32) for step in (1, 2)},
    }
    graph = helper.make_graph(
        nodes,
        "selection",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (batch, 3, 1, N))],
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model = ir.from_proto(proto)
    add_caps(model, routing)
    capped = ir.to_proto(model)
    onnx.checker.check_model(capped, full_check=True)
    return bytes(capped.SerializeToString())


def best(active: np.ndarray, score: np.ndarray, cap: int) -> np.ndarray:
    """Of one image: the `cap` active tokens of highest score, of equal ones the first."""
    order = sorted(np.flatnonzero(active), key=lambda token: (-score[token], token))
    kept = np.zeros_like(active)
    kept[order[:cap]] = True
    return kept


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("caps", [(N, N), (4, 4), (4, 0), (0, 0), (N, 4), (4, N), (11, 1)])
def test_the_best_of_the_taken_go_on_and_of_equal_ones_the_first(batch: int, caps: tuple[int, int]) -> None:
    draws = np.random.default_rng(batch)
    scores = draws.integers(-3, 4, (60, batch, 3, 1, N)).astype(np.float32)  # integers: most of them are tied
    scores[0], scores[1], scores[2] = -1, 1, draws.normal(size=scores[0].shape)  # none, all and tied, no ties
    bites = 0
    with OrtRunner(selection(batch), threads=1, initializers=capping(ALONE, caps)) as runner:
        for run in scores:
            got = runner(run)
            for image in range(batch):
                active = np.ones(N, bool)
                for step, cap in enumerate(caps, start=1):
                    taken = active & (run[image, step, 0] > 0)
                    active = best(taken, run[image, step, 0], cap)
                    np.testing.assert_array_equal(got[f"ranks{step}"][image, 1:] >= 0, active)
                    assert got["dropped"][image, step] == taken.sum() - active.sum()
                    bites += int(taken.sum() - active.sum())
                assert got["dropped"][image, 0] == 0
    assert (bites > 0) == (caps != (N, N)), "some picture meets the cap"


def test_scores_that_a_sigmoid_makes_equal_are_told_apart() -> None:
    scores = np.zeros((1, 3, 1, N), np.float32)
    scores[0, 1, 0] = 30 + np.arange(N)  # sigmoids of exactly 1, all of them
    with OrtRunner(selection(1), threads=1, initializers=capping(ALONE, (4, N))) as runner:
        ranks = runner(scores)["ranks1"][0, 1:]
    assert np.flatnonzero(ranks >= 0).tolist() == [8, 9, 10, 11]


def test_a_step_with_one_rung_has_no_cap_and_no_steps_no_output() -> None:
    one = onnx.load_from_string(selection(1, replace(ALONE, budgets=((0, N), (N,)))))
    assert [i.name for i in one.graph.initializer if i.name.startswith("cap[") and "/" not in i.name] == ["cap[1]"]
    assert [output.name for output in one.graph.output] == ["ranks1", "ranks2", "dropped"]
    none = onnx.load_from_string(selection(1, replace(ALONE, budgets=((N,), (N,)))))
    assert [output.name for output in none.graph.output] == ["ranks1", "ranks2"]


def test_a_graph_as_exported_has_nothing_left_to_compute_of_its_caps(tmp_path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(selection(1), options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert kinds.isdisjoint({"If", "TopK", "Less", "ReduceSum"}), kinds


# ---- whole models


EXPERT = RecursiveConfig(
    image_size=32, patch_size=8, classes=3, width=32, heads=2, depth=2, recursions=3, capacities=(1.0, 0.5, 0.25),
    thresholds=(0.0, 0.0), pool="cls+mean", per_step_norm=True,
)  # fmt: skip
CONFIGS = {"expert_choice": EXPERT, "token_choice": replace(EXPERT, router="token_choice", thresholds=None)}
PATCHES, RUNGS = 16, (0, 2, 5, 16)


@cache
def model_and_graph(router: str, batch: int, trace: bool = True) -> tuple[RecursiveViT, RoutingSpec, bytes]:
    torch.manual_seed(1)
    model = RecursiveViT(CONFIGS[router]).eval().requires_grad_(False)
    for block in model.blocks:
        for parameter in block.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.08)
    torch.nn.init.normal_(model.head.weight)
    for routed in model.routers:
        torch.nn.init.normal_(routed.weight, std=0.7)
    source = ModelSource("m", model, ("a", "b", "c"), Preprocess(height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3))
    routing = routing_spec(model, "adaptive")
    assert routing is not None
    graph = trace_parts(deploy(model, routing, trace=trace), (batch, 3, 32, 32), 20)
    fold_constants(graph)
    scale_queries(graph)
    name_nodes(graph)
    strip_notes(graph)
    share_weights(graph)
    settings = ExportSettings(batch_size=batch, budgets=RUNGS)
    routing, _ = build_ladders(graph, source, routing, settings, None, lambda said: None, lambda said: None)
    add_caps(graph, routing, trace=trace)
    if routing.selection == "threshold":
        name_thresholds(graph, routing.thresholds)
    check_graph(with_shapes(graph), branches=True)
    return model, routing, bytes(ir.to_proto(graph).SerializeToString())


def route_capped(model: RecursiveViT, image: Tensor, caps: tuple[int, ...]) -> dict[str, np.ndarray]:
    """`route_mask` with caps, written out: every token computed, the ones that are out frozen and hidden."""
    x, _ = model.enter(image)
    x = model.step(x, 0)
    active = torch.ones(x.shape[0], x.shape[1] - 1, dtype=torch.bool)
    depth, counts, dropped = active.int(), [active.sum(1)], [torch.zeros(x.shape[0], dtype=torch.int64)]
    plan = model.choose_depth(x[:, 1:]) if model.config.router == "token_choice" else None
    for r in range(1, model.config.recursions):
        if plan is None:
            score = model.score(x[:, 1:], r)
            gate, passes = torch.sigmoid(score), score > model.config.thresholds[r - 1]
        else:
            gate = torch.softmax(plan, dim=-1)[..., r:].sum(dim=-1)
            score, passes = gate, plan.argmax(dim=-1) >= r
        taken = active & passes
        kept = [best(t.numpy(), s.numpy(), caps[r - 1]) for t, s in zip(taken, score, strict=True)]
        active = torch.from_numpy(np.stack(kept))
        after = model.step(x, r, tokens.hide(active))
        patches = torch.where(active[..., None], blend(x[:, 1:], after[:, 1:], gate), x[:, 1:])
        x = torch.cat([after[:, :1], patches], dim=1)
        depth = depth + active.int()
        counts.append(active.sum(1))
        dropped.append(taken.sum(1) - active.sum(1))
    logits = model.readout(x[:, :1], x[:, 1:])
    stacked = {"counts": torch.stack(counts, 1), "dropped": torch.stack(dropped, 1)}
    return {name: value.numpy() for name, value in {"logits": logits, "depth": depth, **stacked}.items()}


def answers(graph: bytes, images: np.ndarray, batch: int, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with OrtRunner(graph, threads=1, initializers=constants) as runner:
        parts = [runner(images[i : i + batch]) for i in range(0, len(images), batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize("router, batch", [("expert_choice", 1), ("expert_choice", 4), ("token_choice", 2)])
@pytest.mark.parametrize("caps", [(16, 16), (5, 2), (2, 2), (5, 0), (16, 2), (7, 3), (0, 0)])
def test_a_capped_graph_is_mask_with_the_best_tokens(router: str, batch: int, caps: tuple[int, int]) -> None:
    model, routing, graph = model_and_graph(router, batch)
    images = np.random.default_rng(5).normal(0, 1.5, (48, 3, 32, 32)).astype(np.float32)
    got = answers(graph, images, batch, capping(routing, caps))
    wanted = route_capped(model, torch.from_numpy(images), caps)
    for name in ("counts", "depth", "dropped"):
        np.testing.assert_array_equal(got[name], wanted[name])
    np.testing.assert_allclose(got["logits"], wanted["logits"], atol=1e-4, rtol=0)
    assert (got["dropped"].sum() > 0) == (caps != (16, 16)), "the caps are meant to bite"
    assert np.ptp(got["logits"], axis=0).min() > 0.1, "pictures are meant to be told apart"


@pytest.mark.parametrize("router", ["expert_choice", "token_choice"])
@pytest.mark.parametrize("caps", [(16, 16), (5, 2), (2, 5), (0, 0), (16, 0)])
def test_forcing_takes_just_so_many_tokens_of_any_picture(router: str, caps: tuple[int, int]) -> None:
    _, routing, graph = model_and_graph(router, 2)
    images = np.random.default_rng(6).normal(size=(4, 3, 32, 32)).astype(np.float32)
    got = answers(graph, images, 2, forcing(routing, caps))
    assert got["counts"].tolist() == [[PATCHES, caps[0], min(caps)]] * 4


def test_without_a_trace_the_caps_are_there_and_no_output() -> None:
    _, routing, graph = model_and_graph("expert_choice", 1, trace=False)
    images = np.random.default_rng(7).normal(size=(6, 3, 32, 32)).astype(np.float32)
    free, capped = (answers(graph, images, 1, capping(routing, caps)) for caps in ((16, 16), (0, 0)))
    assert list(free) == ["logits"]
    assert not np.allclose(free["logits"], capped["logits"], atol=1e-3)
