from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgevit.export.name_thresholds import score_of, set_thresholds
from edgevit.export.pipeline import build_graph, export_bundle
from edgevit.export.recalibrate import recalibrated, score_output
from edgevit.export.settings import ExportSettings
from edgevit.levers import threshold_name
from edgevit.models.routing import route_mask
from edgevit.models.source import ModelSource
from edgevit.models.thresholds import with_thresholds
from edgevit.runtimes.ort import OrtRunner

torch = pytest.importorskip("torch", reason="models are made of torch")
pytest.importorskip("onnxruntime", reason="graphs are run on ONNX Runtime")

EQUAL = (0.25, 0.25)


@pytest.fixture(scope="module")
def source(tiny_source: ModelSource) -> ModelSource:
    return replace(tiny_source, module=with_thresholds(tiny_source.module, EQUAL))


@pytest.fixture(scope="module", params=["adaptive", "mask"])
def graph(request, source) -> bytes:
    settings = ExportSettings(routing=request.param, selection="threshold" if request.param == "mask" else None)
    return build_graph(source, settings).onnx


def answers(graph: bytes, image: np.ndarray) -> dict[str, np.ndarray]:
    with OrtRunner(graph) as runner:
        return runner(image)


def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)


def test_equal_thresholds_stay_apart(graph: bytes) -> None:
    constants = {
        value.name: onnx.numpy_helper.to_array(value) for value in onnx.load_from_string(graph).graph.initializer
    }
    assert [float(constants[threshold_name(step)]) for step in (1, 2)] == list(EQUAL)


@pytest.mark.parametrize("thresholds", [(-1.0, 0.5), (0.5, -1.0), (50.0, 50.0), (-50.0, -50.0)])
def test_other_thresholds_are_those_of_the_model_with_them(source, graph: bytes, thresholds) -> None:
    image = images()
    wanted = route_mask(with_thresholds(source.module, thresholds), torch.from_numpy(image), "threshold")
    for last_rungs in (False, True):
        got = answers(recalibrated(graph, thresholds, scores=True, last_rungs=last_rungs), image)
        assert np.array_equal(got["depth"], wanted.depth.numpy())
        np.testing.assert_allclose(got["logits"], wanted.logits.detach().numpy(), atol=1e-4, rtol=1e-4)
        for step, choice in enumerate(wanted.choices, start=1):
            np.testing.assert_allclose(got[score_output(step)], choice.logits.detach().numpy(), atol=1e-4, rtol=1e-4)


def test_setting_thresholds_moves_nothing_else(graph: bytes) -> None:
    before, after = onnx.load_from_string(graph), onnx.load_from_string(recalibrated(graph, (1.0, 2.0)))
    changed = [
        old.name
        for old, new in zip(before.graph.initializer, after.graph.initializer, strict=True)
        if old.SerializeToString() != new.SerializeToString()
    ]
    assert sorted(changed) == [threshold_name(1), threshold_name(2)]
    assert before.graph.node == after.graph.node


def test_in_its_last_rungs_a_graph_computes_every_token_and_answers_the_same(source) -> None:
    adaptive = build_graph(source, ExportSettings(routing="adaptive", budgets=(0, 16))).onnx
    rungs, whole = (recalibrated(adaptive, (0.1, 50.0), last_rungs=last) for last in (False, True))
    used = {node.op_type for node in onnx.load_from_string(whole).graph.node}
    assert "If" not in used and "TopK" not in used, "nothing is chosen from"
    with OrtRunner(rungs) as some, OrtRunner(whole) as every:
        image = np.random.default_rng(0).standard_normal(some.input.shape, dtype=np.float32)
        wanted, got = some(image), every(image)
    assert wanted.keys() == got.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, atol=1e-5)


def test_a_graph_without_names_is_refused(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    for value in model.graph.initializer:
        value.name = value.name.replace("threshold", "t")
    for node in model.graph.node:
        node.input[:] = [name.replace("threshold", "t") for name in node.input]
    with pytest.raises(KeyError, match="threshold"):
        recalibrated(model.SerializeToString(), EQUAL)


def test_a_score_is_what_its_threshold_is_compared_with(graph: bytes) -> None:
    model = ir.from_proto(onnx.load_from_string(graph))
    score = score_of(model, 1)
    assert threshold_name(1) in [value.name for use in score.uses() for value in use.node.inputs if value is not None]
    set_thresholds(model, (3.0, 4.0))
    assert model.graph.initializers[threshold_name(2)].const_value.numpy() == 4


def test_a_model_nobody_calibrated_takes_what_is_likelier_than_not(tiny_source: ModelSource, tmp_path: Path) -> None:
    told: list[str] = []
    module = copy.deepcopy(tiny_source.module)
    module.config = replace(module.config, thresholds=None)
    settings = ExportSettings(routing="adaptive")
    plain = replace(tiny_source, module=module)
    bundle = export_bundle(plain, settings, tmp_path / "d", open_graph=OrtRunner, note=told.append)
    assert bundle.manifest.routing.thresholds == (0.0, 0.0)
    assert "no calibrated thresholds" in told[0]
    assert module.config.thresholds is None
