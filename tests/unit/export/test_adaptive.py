"""Adaptive graphs against the torch module under `mask`, on pictures that force how many tokens each step takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from forced_counts import EXPERT, RUNGS, TOKEN, N, forced, pictures, saved, some_counts, source_of
from onnx import helper, numpy_helper

from edgevit.errors import InputError
from edgevit.export.pipeline import Graph, build_graph
from edgevit.export.settings import ExportSettings
from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.models.routing import route_mask
from edgevit.runtimes.ort import OrtRunner


@cache
def model_and_graph(router: str, batch: int, pool: Any) -> tuple[RecursiveViT, Graph]:
    model = forced(replace(EXPERT if router == "expert_choice" else TOKEN, pool=pool))
    return model, build_graph(source_of(model), ExportSettings(batch_size=batch, budgets=RUNGS))


def answers(onnx_bytes: bytes, images: np.ndarray, batch: int) -> dict[str, np.ndarray]:
    with OrtRunner(onnx_bytes, threads=1) as runner:
        parts = [runner(images[i : i + batch]) for i in range(0, len(images), batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize(
    "router, batch, pool, n",
    [("expert_choice", 1, "cls+mean", 1000), ("expert_choice", 4, "cls", 400), ("token_choice", 1, "mean", 400)],
)
def test_adaptive_is_mask_whatever_is_active(router: str, batch: int, pool: str, n: int) -> None:
    model, graph = model_and_graph(router, batch, pool)
    assert graph.routing is not None and graph.routing.mode == "adaptive"
    counts = some_counts(n, seed=n)
    images = pictures(counts, seed=n)
    got = answers(graph.onnx, images, batch)
    wanted = route_mask(model, torch.from_numpy(images), graph.routing.selection)
    assert wanted.counts.tolist() == [[N, *pair] for pair in counts], "the pictures are to force the counts"
    assert {pair[0] for pair in counts} == set(range(N + 1))
    np.testing.assert_array_equal(got["counts"], wanted.counts)
    np.testing.assert_array_equal(got["depth"], wanted.depth)
    np.testing.assert_allclose(got["logits"], wanted.logits, atol=1e-4, rtol=0)
    assert np.ptp(got["logits"], axis=0).min() > 0.1, "pictures are meant to be told apart"


def branches(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Every branch of every If in a graph, however deep."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield attribute.g
                yield from branches(attribute.g)


@contextmanager
def marked(onnx_bytes: bytes, rung: str) -> Iterator[bytes]:
    """The graph with one of its branches giving something else."""
    model = onnx.load_from_string(onnx_bytes)
    (branch,) = [branch for branch in branches(model.graph) if branch.name == rung]
    branch.initializer.append(numpy_helper.from_array(np.float32(100), f"{rung}/mark"))
    (output,) = branch.output
    branch.node.append(helper.make_node("Mul", [output.name, f"{rung}/mark"], [f"{rung}/marked"]))
    output.name = f"{rung}/marked"
    yield model.SerializeToString()


@pytest.mark.parametrize("batch", [1, 4])
def test_the_smallest_rung_that_holds_the_fullest_image_is_the_one_that_runs(batch: int) -> None:
    _, graph = model_and_graph("expert_choice", batch, "cls+mean" if batch == 1 else "cls")
    others = [(0, 0)] * (batch - 1)
    counts = [pair for k in range(N + 1) for third in (k // 2, k) for pair in (*others, (k, third))]
    images = pictures(counts, seed=3)
    plain = answers(graph.onnx, images, batch)["logits"]
    fullest = np.array(counts).reshape(-1, batch, 2).max(axis=1)
    for step in (1, 2):
        for below, k in zip((-1, *RUNGS), RUNGS, strict=False):
            with marked(graph.onnx, f"ladder[{step}]@{k}") as other:
                differs = (answers(other, images, batch)["logits"] != plain).any(axis=1).reshape(-1, batch)
            ran = (fullest[:, step - 1] <= k) & (fullest[:, step - 1] > below)
            assert differs.any(axis=1).tolist() == ran.tolist()
            assert ran.any(), f"no picture here enters rung {k} of step {step}"


@pytest.mark.parametrize("batch", [1, 4])
def test_openvino_reads_the_file_and_takes_the_same_rungs(batch: int) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed, so only ONNX Runtime reads the file")
    from edgevit.runtimes.ov import OpenVinoRunner

    _, graph = model_and_graph("expert_choice", batch, "cls+mean" if batch == 1 else "cls")
    images = pictures([(k, k // 2) for k in (0, 1, 3, 4, 5, 15, N, N)], seed=5)
    wanted = answers(graph.onnx, images, batch)
    with OpenVinoRunner(graph.onnx) as runner:
        outputs = [runner(images[start : start + batch]) for start in range(0, len(images), batch)]
    for name, value in wanted.items():
        np.testing.assert_allclose(np.concatenate([output[name] for output in outputs]), value, atol=1e-5)


def test_an_adaptive_file_is_a_plain_onnx_file_with_every_weight_once() -> None:
    model, graph = model_and_graph("expert_choice", 1, "cls+mean")
    proto = onnx.load_from_string(graph.onnx)
    onnx.checker.check_model(proto, full_check=True)
    assert {opset.domain for opset in proto.opset_import} == {""}
    inner = [tensor for branch in branches(proto.graph) for tensor in branch.initializer]
    assert max(tensor.ByteSize() for tensor in inner) < 1024, "branches hold what shapes are made of and no weight"
    assert len(graph.onnx) < 4 * sum(parameter.numel() for parameter in model.parameters()) + 200_000
    nodes = [node for g in (proto.graph, *branches(proto.graph)) for node in g.node]
    assert {"NonZero", "Loop", "GatherElements"}.isdisjoint(node.op_type for node in nodes)
    assert len({node.name for node in nodes}) == len(nodes)


def test_the_cost_is_the_worst_case_and_each_rung_has_its_own() -> None:
    _, graph = model_and_graph("expert_choice", 1, "cls+mean")
    mask = build_graph(source_of(forced(EXPERT)), ExportSettings(routing="mask", selection="threshold"))
    assert graph.cost.flops == mask.cost.flops
    assert graph.cost.weight_bytes == pytest.approx(mask.cost.weight_bytes, abs=2000)
    assert graph.ladders is not None
    width, hidden, depth = 32, 128, 2
    for rung in graph.ladders.rungs:
        n = 1 + rung.patches
        products = n * (width * 3 * width + width * width + 2 * width * hidden) + 2 * n * n * width
        assert rung.flops == depth * 2 * products
    assert [(rung.step, rung.patches) for rung in graph.ladders.rungs] == [(s, k) for s in (1, 2) for k in RUNGS]


def test_rungs_are_chosen_by_what_pictures_need(tmp_path: Path) -> None:
    model, _ = model_and_graph("expert_choice", 1, "cls+mean")
    data = saved(tmp_path / "data", [(0, 0)] * 6 + [(5, 0)] * 3 + [(12, 2)] * 2)
    settings = ExportSettings(budgets="auto", calibration_data=data)
    graph = build_graph(source_of(model), settings)
    assert graph.routing is not None and graph.ladders is not None
    assert graph.routing.budgets == ((0, 5, 12, N), (0, 2, N))
    assert (graph.ladders.chosen_by, graph.ladders.images) == ("counted FLOPs", 11)
    assert [rung.share for rung in graph.ladders.rungs] == pytest.approx(
        [6 / 11, 3 / 11, 2 / 11, 0, 9 / 11, 2 / 11, 0], abs=1e-4
    )


def test_a_measured_curve_says_so(tmp_path: Path) -> None:
    model, _ = model_and_graph("expert_choice", 1, "cls+mean")
    data = saved(tmp_path / "data", [(0, 0), (5, 0), (12, 2)])
    graph = build_graph(
        source_of(model), ExportSettings(budgets="auto", calibration_data=data), open_graph=lambda b: OrtRunner(b)
    )
    assert graph.routing is not None and graph.ladders is not None
    assert graph.ladders.chosen_by == "measured time"
    assert [k for k, _ in graph.ladders.curve] == [0, 1, 2, 4, 8, N]
    assert all(rungs[-1] == N and len(rungs) <= 4 for rungs in graph.routing.budgets)


def test_a_missing_last_rung_is_added_and_said() -> None:
    said: list[str] = []
    settings = ExportSettings(budgets=(4, 0, 4), simplify=False)
    graph = build_graph(source_of(forced(EXPERT)), settings, note=said.append)
    assert graph.routing is not None
    assert graph.routing.budgets == ((0, 4, N), (0, 4, N))
    assert [line for line in said if "all 16 tokens" in line]


def test_one_rung_needs_no_branch() -> None:
    graph = build_graph(source_of(forced(EXPERT)), ExportSettings(budgets=(N,), simplify=False))
    assert "If" not in {node.op_type for node in onnx.load_from_string(graph.onnx).graph.node}


REFUSED: list[tuple[RecursiveConfig, dict[str, Any], str]] = [
    (EXPERT, {"budgets": (0, 17)}, "a budget of 17 for 16 tokens; give 0 to 16"),
    (EXPERT, {"routing": "mask", "budgets": (0, 16)}, "--budgets are the rungs of --routing adaptive, this export is"),
    (EXPERT, {"routing": "adaptive", "target": "openvino"}, "--routing adaptive for target openvino, where an If may"),
    (replace(EXPERT, router="none", thresholds=None), {"routing": "adaptive"}, "for a model without a router"),
]  # fmt: skip


@pytest.mark.parametrize("config, asked, says", REFUSED)
def test_what_adaptive_cannot_do_is_one_line(config: RecursiveConfig, asked: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as refusal:
        build_graph(source_of(RecursiveViT(config).eval()), ExportSettings(**asked))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "asked, says",
    [
        ({"budgets": "auto"}, "--budgets auto chooses by pictures; give a folder of them with --calibration-data"),
        ({"budgets": ()}, "wanted numbers of patches from 0"),
        ({"budgets": (-1, 4)}, "wanted numbers of patches from 0"),
        ({"calibration_samples": 0}, "calibration samples 0; wanted 1 or more"),
    ],
)
def test_budgets_that_make_no_sense_are_one_line(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ExportSettings(**asked)
