from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from half_graphs import golden_of, graph_of, near_tied, open_graph, pictures, routed, valid

from edgevit import strict_json
from edgevit.errors import CheckFailed, InputError
from edgevit.export.achieved import achieved_precision
from edgevit.export.golden import verification_inputs
from edgevit.export.pipeline import Graph
from edgevit.export.precision import with_precision
from edgevit.export.reference import golden_samples
from edgevit.models.source import ModelSource
from edgevit.parity import Golden
from edgevit.precision_record import PrecisionReport
from edgevit.spec import Precision
from edgevit.targets import Runtime


def batches(images: np.ndarray) -> list[np.ndarray]:
    return list(images[:, None])


def lowered(
    model: ir.Model, golden: Golden, precision: Precision = "fp16", calibration: list[np.ndarray] | None = None
) -> tuple[ir.Model, PrecisionReport]:
    made, report, _ = with_precision(
        model, precision, runtime="trt", golden=golden, open_graph=open_graph, batches=calibration
    )
    return made, report


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("mode", ["topk", "mask"])
def test_a_routed_model_is_lowered_and_agrees(
    tiny_graph: Callable[[str], Graph], tiny_source: ModelSource, mode: str, precision: Precision
) -> None:
    graph = tiny_graph(mode)
    golden = golden_samples(tiny_source.module, graph.routing, *verification_inputs(tiny_source.preprocess))
    model = ir.from_proto(onnx.load_from_string(graph.onnx))
    made, report = lowered(model, golden, precision, batches(golden.images[:6]))
    valid(made)
    assert achieved_precision(made) == precision
    assert report.golden.passed
    assert report.pictures is not None
    assert report.pictures.inputs == 6
    assert report.nodes[precision] > 0.5
    assert report.weight_bytes[precision] > report.weight_bytes["fp32"]
    assert {"routers.0/MatMul", "routers.1/MatMul"} <= {island.node for island in report.islands}
    assert achieved_precision(model) == "fp32"


def test_the_report_is_the_same_when_read_back() -> None:
    model = routed()
    _, report = lowered(model, golden_of(model, pictures()))
    encoded = strict_json.encode(report)
    assert strict_json.decode(PrecisionReport, encoded, "precision.json") == report


def test_an_overflow_that_the_pictures_show_never_becomes_half() -> None:
    model, images = routed(), pictures(scale=500)
    made, report = lowered(model, golden_of(model, images), calibration=batches(images))
    valid(made)
    assert report.retries == ()
    assert any(island.node == "blocks.1/Mul" and "reaches" in island.reason for island in report.islands)
    assert report.largest[0].magnitude > 65504


def test_a_planted_overflow_that_no_picture_showed_is_found_by_the_ladder_and_cured() -> None:
    model = routed()
    golden = golden_of(model, pictures(scale=500))
    made, report = lowered(model, golden, calibration=batches(pictures()))
    valid(made)
    assert [retry.part for retry in report.retries] == ["blocks.1"]
    assert "not finite" in report.retries[0].because
    assert report.golden.passed
    assert ("blocks.1/Mul", "blocks.1 drifted too far in fp16") in [(i.node, i.reason) for i in report.islands]
    assert "blocks.0/MatMul" not in [island.node for island in report.islands]


def test_a_planted_near_tie_is_reported_and_cured_by_widening() -> None:
    model = routed()
    images = np.concatenate([pictures(), near_tied(model)[None]])
    _, report = lowered(model, golden_of(model, images))
    assert report.retries
    assert "of the tokens selected at step 2 are the same" in report.retries[0].because
    assert "blocks.0" in [retry.part for retry in report.retries]
    assert report.golden.selected_agreeing == (1.0,)
    assert report.scores[0].flipped == 0


def test_what_cannot_agree_is_refused_with_what_was_tried() -> None:
    model = routed()
    golden = golden_of(model, pictures())
    wrong = replace(golden, logits=golden.logits[:, ::-1].copy())
    with pytest.raises(CheckFailed, match=r"fp16 does not answer as fp32: .* without success: (blocks|head).*; export"):
        lowered(model, wrong)


def test_without_pictures_golden_inputs_are_measured_and_that_is_said() -> None:
    model = routed()
    notes: list[str] = []
    _, report, _ = with_precision(
        model, "bf16", runtime="trt", golden=golden_of(model, pictures()), open_graph=open_graph, note=notes.append
    )
    assert notes == ["bf16 without --calibration-data: ranges were measured on generated inputs, not on pictures"]
    assert (report.generated, report.calibrated_on, report.pictures) == (True, 4, None)


def test_progress_goes_from_nothing_to_everything() -> None:
    model, shares = routed(), list[float]()
    with_precision(
        model, "fp16", runtime="trt", golden=golden_of(model, pictures()), open_graph=open_graph,
        batches=batches(pictures()), report=shares.append,
    )  # fmt: skip
    assert shares[-1] == pytest.approx(1.0)
    assert all(0 <= share <= 1 for share in shares)


def test_int8_without_pictures_is_refused() -> None:
    model = routed()
    with pytest.raises(InputError, match="int8 needs pictures"):
        lowered(model, golden_of(model, pictures()), "int8")


def test_fp32_is_no_lower_precision() -> None:
    model = routed()
    with pytest.raises(InputError, match="fp32 is what the graph has already"):
        lowered(model, golden_of(model, pictures()), "fp32")


def test_an_iterator_which_one_pass_would_use_up_is_a_mistake() -> None:
    def once() -> Iterator[np.ndarray]:
        yield from batches(pictures())

    model = routed()
    with pytest.raises(AssertionError, match="used up"):
        with_precision(
            model, "fp16", runtime="trt", golden=golden_of(model, pictures()), open_graph=open_graph, batches=once()
        )


def test_a_graph_of_a_larger_batch_is_judged_on_all_images() -> None:
    ends = "(float[3,3,4,4] image) => (float[3,4] logits)"
    weight = np.random.default_rng(0).standard_normal((48, 4)).astype(np.float32)
    model = graph_of("flat = Flatten(image)  logits = MatMul(flat, w)", {"w": weight}, ends)
    images = pictures(4)
    golden = Golden(("a", "b", "c", "d"), images, images.reshape(4, 48) @ weight)
    _, report = lowered(model, golden)
    assert (report.golden.inputs, report.golden.decisions_agreeing) == (4, 4)


@pytest.mark.parametrize("runtime, rest", [("ort", "fp32"), ("trt", "fp16")])
def test_int8_leaves_the_rest_in_the_type_of_the_runtime(
    graph_to_quantize: Callable[[str], Graph], tiny_source: ModelSource, runtime: Runtime, rest: str
) -> None:
    graph = graph_to_quantize("topk")
    golden = golden_samples(tiny_source.module, graph.routing, *verification_inputs(tiny_source.preprocess))
    golden = replace(golden, depth=None, margin=None)  # random routers of a tiny model flip under any noise
    made, report, _ = with_precision(
        ir.from_proto(onnx.load_from_string(graph.onnx)), "int8", runtime=runtime, golden=golden,
        open_graph=open_graph, batches=batches(golden.images[:8]),
    )  # fmt: skip
    valid(made)
    assert achieved_precision(made) == "int8"
    assert report.nodes["int8"] > 0.1
    assert report.nodes[rest] == max(report.nodes.values())
    assert any(name.startswith("routers.0/MatMul") for name in report.float_linears)
