"""Graphs in stages against the torch module under `mask`, dispatched as a host would."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from forced_counts import EXPERT, RUNGS, SIZE, TOKEN, N, forced, pictures, saved, some_counts, source_of
from onnx import numpy_helper

from edgevit.errors import CheckFailed
from edgevit.export.finished import Graph
from edgevit.export.pipeline import build_graph, export_bundle
from edgevit.export.prove_stages import prove_stages, served
from edgevit.export.settings import ExportSettings
from edgevit.models.recursive import EarlyMerge, RecursiveViT
from edgevit.models.routing import route_mask
from edgevit.runtimes.adaptive import AdaptiveRunner
from edgevit.runtimes.ort import OrtRunner


@cache
def model_and_stages(router: str, batch: int) -> tuple[RecursiveViT, Graph]:
    model = forced(EXPERT if router == "expert_choice" else TOKEN)
    settings = ExportSettings(target="rtx", routing="adaptive", batch_size=batch, budgets=RUNGS)
    return model, build_graph(source_of(model), settings)


def runner_of(onnx_bytes: bytes) -> OrtRunner:
    return OrtRunner(onnx_bytes, threads=1)


@pytest.mark.parametrize("router, batch", [("expert_choice", 1), ("expert_choice", 4), ("token_choice", 2)])
def test_every_budget_that_holds_the_active_tokens_answers_as_mask(router: str, batch: int) -> None:
    model, graph = model_and_stages(router, batch)
    assert graph.routing is not None and graph.routing.budgets == (RUNGS,) * 2
    images = pictures(some_counts(80, seed=batch), seed=batch)
    wanted = route_mask(model, torch.from_numpy(images), graph.routing.selection)
    entered = dict.fromkeys(RUNGS, 0)
    with runner_of(graph.onnx) as enter:
        given = [enter(images[i : i + batch]) for i in range(0, len(images), batch)]
    np.testing.assert_array_equal(np.concatenate([one["active"] for one in given]), wanted.counts[:, 1])
    for budget, onnx_bytes in graph.rests.items():
        with runner_of(onnx_bytes) as rest:
            for i, one in enumerate(given):
                if one["active"].max() > budget:
                    continue
                entered[budget] += 1
                got, these = rest(one["state"]), slice(i * batch, (i + 1) * batch)
                np.testing.assert_array_equal(got["counts"], wanted.counts[these])
                np.testing.assert_array_equal(got["depth"], wanted.depth[these])
                np.testing.assert_allclose(got["logits"], wanted.logits[these], atol=1e-4, rtol=0)
    assert all(runs for budget, runs in entered.items() if batch == 1 or budget == N), entered


def test_stages_are_plain_graphs_without_branches_and_with_what_they_need() -> None:
    _, graph = model_and_stages("expert_choice", 1)
    assert list(graph.files) == ["enter.onnx", *(f"rest-{k}.onnx" for k in RUNGS)]
    held = {}
    for name, data in graph.files.items():
        proto = onnx.load_from_string(data)
        onnx.checker.check_model(proto, full_check=True)
        assert "If" not in {node.op_type for node in proto.graph.node}
        assert len(proto.graph.input) == 1
        held[name] = {tensor.name for tensor in proto.graph.initializer}
    assert "threshold[1]" in held.pop("enter.onnx")
    assert all(names & {"threshold[1]", "threshold[2]"} == {"threshold[2]"} for names in held.values())
    assert [output.name for output in graph.outputs] == ["logits", "depth", "counts"]


def test_equal_thresholds_stay_apart_where_a_stage_has_several() -> None:
    config = replace(EXPERT, recursions=4, capacities=(1.0, 0.5, 0.25, 0.25), thresholds=(2.0, 2.0, 2.0))
    settings = ExportSettings(target="rtx", routing="adaptive", budgets=(N,), simplify=False)
    graph = build_graph(source_of(RecursiveViT(config).eval()), settings)
    rest = onnx.load_from_string(graph.rests[N])
    assert {"threshold[2]", "threshold[3]"} <= {tensor.name for tensor in rest.graph.initializer}


def test_the_cost_is_the_worst_case_and_each_budget_has_its_own() -> None:
    model, graph = model_and_stages("expert_choice", 1)
    ladder = build_graph(source_of(model), ExportSettings(budgets=RUNGS))
    assert graph.cost.flops == ladder.cost.flops
    assert graph.ladders is not None and ladder.ladders is not None
    assert graph.ladders.rungs == ladder.ladders.rungs


def test_budgets_are_chosen_by_the_second_step_for_all_later_ones(tmp_path: Path) -> None:
    data = saved(tmp_path / "data", [(0, 0)] * 6 + [(5, 0)] * 3 + [(12, 2)] * 2)
    settings = ExportSettings(target="rtx", routing="adaptive", budgets="auto", calibration_data=data, simplify=False)
    graph = build_graph(source_of(forced(EXPERT)), settings, open_graph=runner_of)
    assert graph.routing is not None and graph.ladders is not None
    assert graph.routing.budgets == ((0, 5, 12, N),) * 2
    assert graph.ladders.chosen_by == "counted FLOPs", "no device is here to time on"
    assert [rung.share for rung in graph.ladders.rungs] == pytest.approx([6 / 11, 3 / 11, 2 / 11, 0] * 2, abs=1e-4)


def test_a_bundle_in_stages_is_verified_whole_and_says_which_budgets_served(tmp_path: Path) -> None:
    told: list[str] = []
    bundle = export_bundle(
        source_of(forced(EXPERT)),
        ExportSettings(target="desktop-gpu", routing="adaptive"),
        tmp_path / "staged",
        open_graph=runner_of,
        open_stages=AdaptiveRunner,
        note=told.append,
    )
    assert bundle.stages is not None and tuple(bundle.stages.rests) == (0, 1, 4, N)
    parity = bundle.manifest.parity
    assert parity is not None and parity.decisions_agreed == parity.inputs
    assert any("runs took budget 0" in line for line in told)


def test_openvino_reads_every_stage() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed, so nothing but ONNX Runtime reads the stages")
    from edgevit.runtimes.ov import OpenVinoRunner

    _, graph = model_and_stages("expert_choice", 4)
    images = pictures([(0, 0)] * 4 + [(0, 0), (2, 0), (1, 0), (3, 1)] + [(9, 4)] * 4, seed=5)
    answers = []
    for runner in (OrtRunner, OpenVinoRunner):
        with AdaptiveRunner(runner(graph.onnx), {k: runner(data) for k, data in graph.rests.items()}) as whole:
            answers.append([whole(images[start : start + 4]) for start in (0, 4, 8)])
    for wanted, got in zip(*answers, strict=True):
        for name, value in wanted.items():
            np.testing.assert_allclose(got[name], value, atol=1e-5)


def test_served_counts_batches_by_their_fullest_image() -> None:
    _, graph = model_and_stages("expert_choice", 4)
    images = pictures([(0, 0)] * 4 + [(0, 0), (2, 0), (1, 0), (3, 1)] + [(9, 0)] * 4, seed=5)
    assert served(graph, images, runner_of) == {0: 1, 1: 0, 3: 1, 8: 0, N: 1}


def _with_another_head(graph: Graph, budget: int, factor: float = 1.01) -> Graph:
    """The graph with the last weights of one budget changed."""
    proto = onnx.load_from_string(graph.rests[budget])
    (head,) = [node for node in proto.graph.node if node.name.startswith("head/") and len(node.input) > 1]
    (weight,) = [tensor for tensor in proto.graph.initializer if tensor.name == head.input[1]]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name))
    return replace(graph, rests={**graph.rests, budget: proto.SerializeToString()})


def test_a_budget_that_answers_with_no_numbers_is_found() -> None:
    _, graph = model_and_stages("expert_choice", 1)
    images, wrong = pictures([(N, N)] * 4, seed=1), _with_another_head(graph, 3, np.nan)
    with pytest.raises(CheckFailed, match="the graph for 3 tokens does not answer as the one for all"):
        prove_stages(wrong, images, ExportSettings(target="rtx"), runner_of, AdaptiveRunner)


def test_a_budget_by_another_threshold_is_found() -> None:
    _, graph = model_and_stages("expert_choice", 1)
    images = pictures([(N, k) for k in range(N)], seed=1)
    proto = onnx.load_from_string(graph.rests[8])
    (threshold,) = [tensor for tensor in proto.graph.initializer if tensor.name == "threshold[2]"]
    everything = np.full_like(numpy_helper.to_array(threshold), -1e6)
    threshold.CopyFrom(numpy_helper.from_array(everything, threshold.name))
    wrong = replace(graph, rests={**graph.rests, 8: proto.SerializeToString()})
    with pytest.raises(CheckFailed, match=r"inputs in up to \d of the tokens"):
        prove_stages(wrong, images, ExportSettings(target="rtx"), runner_of, AdaptiveRunner)


@pytest.mark.parametrize("router", ["expert_choice", "token_choice"])
@pytest.mark.parametrize("budget", [k for k in RUNGS if k != N])
def test_a_budget_that_answers_otherwise_is_found_though_no_input_enters_it(router: str, budget: int) -> None:
    _, graph = model_and_stages(router, 1 if router == "expert_choice" else 2)
    full = pictures([(N, N)] * 4, seed=1)  # which none of the smaller budgets serves
    assert {k for k, runs in served(graph, full, runner_of).items() if runs} == {N}
    settings = ExportSettings(target="rtx")
    prove_stages(graph, full, settings, runner_of, AdaptiveRunner)
    with pytest.raises(CheckFailed, match=f"the graph for {budget} tokens does not answer as the one for all"):
        prove_stages(_with_another_head(graph, budget), full, settings, runner_of, AdaptiveRunner)


def test_the_state_is_as_wide_as_what_crosses() -> None:
    _, graph = model_and_stages("expert_choice", 4)
    state = onnx.load_from_string(graph.onnx).graph.output[0]
    sides = [side.dim_value for side in state.type.tensor_type.shape.dim]
    width = EXPERT.width
    # The tokens with CLS, their ranks with CLS, who is active, how deep each goes, how many in both steps.
    assert sides == [4, (1 + N) * width + (1 + N) + N + N + 2]
    assert graph.input.shape == (4, 3, SIZE, SIZE)


def test_tensorrt_rtx_reads_every_stage_in_fp32_and_builds_it_with_no_gpu() -> None:
    library = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed, so nothing builds the stages")
    from edgevit.export.trt import EngineSettings, build_engine

    _, graph = model_and_stages("expert_choice", 1)
    stack_bytes = 4 * EXPERT.depth * 12 * EXPERT.width**2
    for data, steps in ((graph.onnx, 1), *((graph.rests[k], EXPERT.recursions - 1) for k in (0, 3, N))):
        built = build_engine(data, library, EngineSettings())
        assert built.precision.products == {"fp32": 1.0}
        assert built.precision.attention == {"fp32": EXPERT.depth * steps}
        assert len(built.engine) > stack_bytes, "an engine shares no weights with another"


def test_what_is_answered_before_the_choice_crosses_to_the_answers(tmp_path: Path) -> None:
    model = forced(replace(EXPERT, early_merge=EarlyMerge(method="tome", tokens=10)))
    bundle = export_bundle(
        source_of(model),
        ExportSettings(target="rtx", routing="adaptive", simplify=False),
        tmp_path / "merged",
        open_graph=runner_of,
        open_stages=AdaptiveRunner,
    )
    assert bundle.stages is not None and tuple(bundle.stages.rests) == (0, 2, 10)
    assert [output.name for output in bundle.manifest.outputs] == ["logits", "depth", "counts", "assignment"]
    parity = bundle.manifest.parity
    assert parity is not None and parity.patches_agreed == 1
