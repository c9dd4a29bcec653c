"""Exports in stages in lower precisions, dispatched as a host would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from forced_counts import EXPERT, N, forced, pictures, saved, source_of

from edgevit.agreement import judge
from edgevit.bundle import Bundle
from edgevit.errors import CheckFailed
from edgevit.export.achieved import achieved_precision
from edgevit.export.emulate import emulated
from edgevit.export.golden import verification_inputs
from edgevit.export.lowered_stages import lowered_stages
from edgevit.export.pipeline import build_graph, export_bundle
from edgevit.export.precision import with_precision
from edgevit.export.reference import golden_samples
from edgevit.export.rejoin import rejoined
from edgevit.export.settings import ExportSettings
from edgevit.parity import Golden
from edgevit.runtimes.adaptive import AdaptiveRunner
from edgevit.runtimes.ort import OrtRunner
from edgevit.spec import Precision

BUDGETS = (0, 4, N)


def open_graph(onnx_bytes: bytes) -> OrtRunner:
    return OrtRunner(onnx_bytes, threads=1)


def model_of(onnx_bytes: bytes) -> ir.Model:
    return ir.from_proto(onnx.load_from_string(onnx_bytes))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_stages_of_a_lower_precision_answer_nearly_as_fp32_in_every_budget(
    precision: Precision, tmp_path: Path
) -> None:
    source = source_of(forced(EXPERT))
    settings = ExportSettings(
        target="rtx", routing="adaptive", budgets=BUDGETS, precision=precision,
        calibration_data=saved(tmp_path / "data", [(0, 0), (3, 1), (N, N)]),
    )  # fmt: skip
    export_bundle(source, settings, tmp_path / "b", open_graph=open_graph, open_stages=AdaptiveRunner)
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.manifest.precision_achieved == precision
    stages = bundle.stages
    assert stages is not None and tuple(sorted(stages.rests)) == BUDGETS
    parts = {name: model_of(bundle.read(name)) for name in (stages.enter, *stages.rests.values())}
    assert {achieved_precision(part) for part in parts.values()} == {precision}
    images = pictures([(0, 0), (2, 1), (4, 4), (9, 3), (N, N)], seed=5)
    runners = {name: open_graph(ir.to_proto(emulated(part)).SerializeToString()) for name, part in parts.items()}
    with AdaptiveRunner(runners[stages.enter], {k: runners[name] for k, name in stages.rests.items()}) as runner:
        given = [runner(image[None]) for image in images]
    got = {name: np.concatenate([one[name] for one in given]) for name in given[0]}
    golden = golden_samples(source.module, bundle.manifest.routing, tuple("abcde"), images)
    assert judge(golden, got, precision).passed


def test_a_budget_that_answers_otherwise_is_found() -> None:
    source = source_of(forced(EXPERT))
    graph = build_graph(source, ExportSettings(target="rtx", routing="adaptive", budgets=BUDGETS))
    golden: Golden = golden_samples(source.module, graph.routing, *verification_inputs(source.preprocess))
    flat, _ = rejoined(model_of(graph.onnx), model_of(graph.rests[N]))
    _, report, recipe = with_precision(flat, "fp16", runtime="trt-rtx", golden=golden, open_graph=open_graph)
    _, told = lowered_stages(graph, recipe, report, golden, open_graph, AdaptiveRunner)
    assert told.golden.passed
    wrong = model_of(graph.rests[4])
    weight = wrong.graph.initializers["model.head.weight"]
    assert weight.const_value is not None
    weight.const_value = ir.tensor(-weight.const_value.numpy(), name=weight.name)
    broken = replace(graph, rests={**graph.rests, 4: ir.to_proto(wrong).SerializeToString()})
    with pytest.raises(CheckFailed, match="fp16 in stages does not answer as fp32"):
        lowered_stages(broken, recipe, report, golden, open_graph, AdaptiveRunner)
