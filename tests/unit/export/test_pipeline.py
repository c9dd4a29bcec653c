"""The exporter from end to end on a tiny model, with ONNX Runtime behind the door that api.py opens."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from torch import Tensor, nn

from edgevit import api
from edgevit.bundle import Bundle
from edgevit.errors import CheckFailed, InputError
from edgevit.export.pipeline import Graph, build_graph, export_bundle
from edgevit.export.settings import ExportSettings
from edgevit.models.source import ModelSource
from edgevit.parity import Golden, compare
from edgevit.runtimes.ort import OrtRunner

ROUTINGS = [("topk", None), ("mask", "top-k"), ("mask", "threshold"), ("adaptive", None)]
TOPK = ExportSettings(routing="topk")


def export(source: ModelSource, output: Path, settings: ExportSettings | None = None, force: bool = False) -> Bundle:
    return export_bundle(source, settings or TOPK, output, open_graph=OrtRunner, force=force)


def same_bytes(one: Path, other: Path) -> bool:
    files = sorted(path.name for path in one.iterdir())
    assert files == sorted(path.name for path in other.iterdir())
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


@pytest.mark.parametrize("routing, selection", ROUTINGS)
@pytest.mark.parametrize("batch", [1, 3])
def test_every_mode_gives_a_verified_bundle(
    tiny_source: ModelSource, tmp_path: Path, routing: str, selection: str | None, batch: int
) -> None:
    settings = ExportSettings(routing=routing, selection=selection, batch_size=batch)  # type: ignore[arg-type]
    bundle = export(tiny_source, tmp_path / "bundle", settings)
    manifest = bundle.manifest
    assert manifest.parity is not None
    assert manifest.parity.inputs >= 16
    assert manifest.parity.decisions_agreed == manifest.parity.inputs
    assert manifest.parity.step_agreement == (1.0, 1.0)
    assert manifest.routing is not None
    assert (manifest.routing.mode, manifest.routing.grid) == (routing, (4, 4))
    assert manifest.input.shape == (batch, 3, 32, 32)
    shapes = {spec.name: spec.shape for spec in manifest.outputs}
    wanted = {"logits": (batch, 3), "depth": (batch, 16), "counts": (batch, 3)}
    assert shapes == wanted | ({"dropped": (batch, 3)} if routing == "adaptive" else {})
    onnx.checker.check_model(onnx.load_from_string(bundle.read("model.onnx")), full_check=True)


def test_gathered_and_masked_graphs_agree_on_other_pictures(
    tiny_source: ModelSource, tiny_graph: Callable[[str], Graph]
) -> None:
    images = np.random.default_rng(5).standard_normal((24, 1, 3, 32, 32)).astype(np.float32)
    with OrtRunner(tiny_graph("topk").onnx) as topk, OrtRunner(tiny_graph("mask").onnx) as mask:
        depths = []
        for image in images:
            one, other = topk(image), mask(image)
            np.testing.assert_allclose(one["logits"], other["logits"], atol=1e-4)
            np.testing.assert_array_equal(one["depth"], other["depth"])
            np.testing.assert_array_equal(one["counts"], [[16, 8, 4]])
            depths.append(one["depth"])
    assert len({depth.tobytes() for depth in depths}) > 12, "pictures are meant to select different tokens"


def test_topk_computes_what_its_capacities_say(tiny_graph: Callable[[str], Graph]) -> None:
    topk, mask = tiny_graph("topk").cost.flops_by_module, tiny_graph("mask").cost.flops_by_module
    width, hidden, depth = 32, 128, 2
    for step, patches in enumerate((16, 8, 4)):
        n = 1 + patches
        products = n * (width * 3 * width + width * width + 2 * width * hidden) + 2 * n * n * width
        for block in range(depth):
            assert topk[f"blocks.{block}[{step}]"] == 2 * products
            assert mask[f"blocks.{block}[{step}]"] == mask["blocks.0[0]"] == topk["blocks.0[0]"]


def test_weights_are_stored_once_whatever_the_number_of_steps(tiny_graph: Callable[[str], Graph]) -> None:
    model = onnx.load_from_string(tiny_graph("topk").onnx)
    shapes = [tuple(tensor.dims) for tensor in model.graph.initializer]
    assert shapes.count((32, 96)) == 2  # one qkv for each of the two blocks, used at three steps
    assert shapes.count((32, 128)) == 2


def test_no_trace_leaves_the_logits_alone(tiny_source: ModelSource, tmp_path: Path) -> None:
    bundle = export(tiny_source, tmp_path / "bundle", ExportSettings(routing="topk", trace=False))
    assert [spec.name for spec in bundle.manifest.outputs] == ["logits"]
    operators = {node.op_type for node in onnx.load_from_string(bundle.read("model.onnx")).graph.node}
    assert "Greater" not in operators, "what only the trace reads is left out too"


def test_a_dense_model_has_no_routing(dense_source: ModelSource, tmp_path: Path) -> None:
    manifest = export(dense_source, tmp_path / "bundle", ExportSettings()).manifest
    assert manifest.routing is None
    assert [spec.name for spec in manifest.outputs] == ["logits"]


@pytest.mark.parametrize("routing", ["topk", "adaptive"])
def test_the_same_export_is_byte_identical(tiny_source: ModelSource, tmp_path: Path, routing: Any) -> None:
    export(tiny_source, tmp_path / "one", ExportSettings(routing=routing))
    export(tiny_source, tmp_path / "two", ExportSettings(routing=routing))
    assert same_bytes(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("routing", ["topk", "adaptive"])
def test_no_file_of_a_bundle_names_this_machine(tiny_source: ModelSource, tmp_path: Path, routing: Any) -> None:
    bundle = export(tiny_source, tmp_path / "bundle", ExportSettings(routing=routing))
    root = str(Path(__file__).parents[3]).encode()
    for path in bundle.path.iterdir():
        data = path.read_bytes()
        assert root not in data
        assert b"site-packages" not in data
        assert b"stack_trace" not in data


class Wrong(OrtRunner):
    """Answers like the graph, but for one logit."""

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        outputs = super().__call__(image)
        outputs["logits"] = outputs["logits"] + np.array([[0.01, 0, 0]], np.float32)
        return outputs


class Misrouted(OrtRunner):
    """Answers like the graph, but sends other tokens round."""

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        outputs = super().__call__(image)
        return outputs | {"depth": np.ascontiguousarray(outputs["depth"][:, ::-1])}


@pytest.mark.parametrize("runner, says", [(Wrong, "logits differ by 1.00e-02"), (Misrouted, "tokens differ at step 2")])
def test_a_failed_verification_leaves_no_bundle(
    tiny_source: ModelSource, tmp_path: Path, runner: type[OrtRunner], says: str
) -> None:
    with pytest.raises(CheckFailed, match=says) as failure:
        export_bundle(tiny_source, TOPK, tmp_path / "bundle", open_graph=runner)
    assert failure.value.exit_status == 1
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_follows_the_picture_is_exported_so(tiny_source: ModelSource, tmp_path: Path) -> None:
    manifest = export(tiny_source, tmp_path / "bundle", ExportSettings()).manifest
    assert manifest.routing is not None
    assert (manifest.routing.mode, manifest.routing.budgets) == ("adaptive", ((0, 1, 4, 16),) * 2)
    ladders: Any = manifest.cost["ladders"]
    assert (ladders["chosen_by"], len(ladders["rungs"])) == ("default", 8)


def test_a_failed_export_leaves_the_bundle_that_was_there(tiny_source: ModelSource, tmp_path: Path) -> None:
    digest = export(tiny_source, tmp_path / "bundle").digest
    with pytest.raises(CheckFailed):
        export_bundle(tiny_source, TOPK, tmp_path / "bundle", open_graph=Wrong, force=True)
    assert Bundle.open(tmp_path / "bundle").digest == digest


def test_an_existing_output_is_refused_before_any_work(tiny_source: ModelSource, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    steps: list[str] = []
    with pytest.raises(InputError, match="exists already; use --force"):
        export_bundle(tiny_source, TOPK, tmp_path / "bundle", open_graph=OrtRunner, report=steps.append)
    assert steps == []


def test_a_bundle_can_prove_itself_again_without_torch(tiny_source: ModelSource, tmp_path: Path) -> None:
    bundle = export(tiny_source, tmp_path / "bundle")
    golden = Golden.from_arrays(bundle.golden())
    with OrtRunner(bundle.read("model.onnx")) as runner:
        assert compare(golden, runner, 1e-4, 1e-4).passed
    with Wrong(bundle.read("model.onnx")) as runner:
        assert len(compare(golden, runner, 1e-4, 1e-4).faults) == len(golden.names)


def test_simplifying_needs_verification(tiny_source: ModelSource) -> None:
    steps: list[str] = []
    build_graph(tiny_source, ExportSettings(routing="topk", verify=False), steps.append)
    assert "simplify" not in steps
    assert any(step.startswith("leave out simplify") for step in steps), "left out, but not silently"


class Averages(nn.Module):
    """Somebody's own module: no routing, four logits."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(image.mean(dim=(2, 3)))


def test_a_module_of_ones_own_goes_the_same_way(tmp_path: Path) -> None:
    preprocess_of = ModelSource("own", Averages().eval(), tuple("abcd"), _preprocess(20))
    manifest = export(preprocess_of, tmp_path / "bundle", ExportSettings()).manifest
    assert manifest.labels == tuple("abcd")
    assert manifest.parity is not None


def _preprocess(size: int):  # type: ignore[no-untyped-def]
    from edgevit.preprocess import Preprocess

    return Preprocess(height=size, width=size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.mark.parametrize("step", ["trace", "verify", "write the bundle"])
def test_a_killed_export_leaves_nothing_that_looks_like_a_bundle(tmp_path: Path, step: str) -> None:
    script = f"""
        import os, signal, sys
        from pathlib import Path
        import torch
        from edgevit.export.pipeline import export_bundle
        from edgevit.export.settings import ExportSettings
        from edgevit.models.source import ModelSource
        from edgevit.preprocess import Preprocess
        from edgevit.runtimes.ort import OrtRunner

        torch.set_num_threads(1)
        class Flat(torch.nn.Module):
            def forward(self, image):
                return image.mean(dim=(2, 3))

        def report(step):
            if step == {step!r}:
                os.kill(os.getpid(), signal.SIGKILL)

        preprocess = Preprocess(height=16, width=16, mean=(0.5,) * 3, std=(0.5,) * 3)
        source = ModelSource("flat", Flat().eval(), ("a", "b", "c"), preprocess)
        export_bundle(source, ExportSettings(), Path(sys.argv[1]), open_graph=OrtRunner, report=report)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "bundle")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(InputError):
        Bundle.open(tmp_path / "bundle")


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"target": "toaster"}, "unknown target 'toaster'"),
        ({"precision": "bf16"}, "precision bf16 is not built for target cpu-x86"),
        ({"opset": 9}, "opset 9 for target cpu-x86; wanted 18 to 23"),
        ({"opset": 23, "target": "jetson-orin"}, "opset 23 for target jetson-orin; wanted 18 to 20"),
        ({"routing": "clever"}, "routing 'clever'; wanted one of: dense, mask, topk, adaptive"),
        ({"selection": "best"}, "selection 'best'; wanted one of: top-k, threshold"),
        ({"batch_size": 0}, "batch size 0"),
        ({"batch_size": 99999999}, "batch size 99999999"),
        ({"atol": -1.0}, "tolerances"),
        ({"rtol": float("nan")}, "tolerances"),
    ],
)
def test_settings_that_cannot_be_met_are_one_line(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says) as failure:
        ExportSettings(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("precision, target", [("fp16", "jetson-orin"), ("bf16", "rtx"), ("int8", "cpu-x86")])
def test_a_lower_precision_is_lowered_proved_and_recorded(
    tiny_source: ModelSource, tmp_path: Path, precision: Any, target: str
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path / "pictures" / f"{number}.png")
    settings = ExportSettings(
        target=target, precision=precision, routing="topk",
        calibration_data=tmp_path / "pictures", calibration_samples=5,
    )  # fmt: skip
    told: list[str] = []
    bundle = export_bundle(
        tiny_source,
        settings,
        tmp_path / "d",
        open_graph=OrtRunner,
        note=told.append,
    )
    assert bundle.manifest.precision_achieved == bundle.manifest.precision_requested == precision
    record = json.loads(bundle.read("precision.json"))
    assert record["requested"] == precision
    assert record["calibrated_on"] == 4
    assert "asked for 5 calibration pictures and got 4: there are no more" in told
    assert "emulated" in bundle.manifest.parity.runtime
    if precision != "bf16":  # which ONNX Runtime has no operators for on a CPU
        assert api.verify_bundle(bundle.path, runtime="ort").passed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "pictures"]


def test_int8_needs_pictures_and_a_proof() -> None:
    with pytest.raises(InputError, match="--calibration-data"):
        ExportSettings(precision="int8")
    with pytest.raises(InputError, match="leave out --no-verify"):
        ExportSettings(precision="fp16", target="rtx", verify=False)


def test_pictures_that_fill_up_a_batch_are_not_judged_twice(tiny_source: ModelSource, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(5):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path / "pictures" / f"{number}.png")
    settings = ExportSettings(
        target="rtx", precision="fp16", routing="topk", batch_size=4, calibration_data=tmp_path / "pictures"
    )
    bundle = export(tiny_source, tmp_path / "d", settings)
    assert json.loads(bundle.read("precision.json"))["pictures"]["inputs"] == 5


def test_a_lower_precision_takes_no_tolerance_and_says_what_it_was_computed_in(
    tiny_source: ModelSource, tmp_path: Path
) -> None:
    bundle = export(tiny_source, tmp_path / "d", ExportSettings(target="rtx", precision="fp16", routing="topk"))
    with pytest.raises(InputError, match="leave --atol and --rtol out"):
        api.verify_bundle(bundle.path, runtime="ort", atol=1e-3)
    notes: list[str] = []
    assert api.verify_bundle(bundle.path, runtime="ort", note=notes.append).passed
    assert "fp32" in notes[0]


def test_a_precision_that_does_not_hold_leaves_nothing_behind(
    tiny_source: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise CheckFailed("fp16 does not answer as fp32")

    monkeypatch.setattr("edgevit.export.lowered.with_precision", refuse)
    with pytest.raises(CheckFailed):
        export(tiny_source, tmp_path / "d", ExportSettings(target="rtx", precision="fp16", routing="topk"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "asked, says",
    [
        ({"routing": "topk", "thresholds": (0.0, 0.0)}, "--thresholds with --routing topk, which takes a fixed count"),
        ({"routing": "topk", "calibration_data": Path(".")}, "an export in fp32 as topk has neither"),
    ],
)
def test_what_would_be_thrown_away_is_refused(tiny_source: ModelSource, asked: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        build_graph(tiny_source, ExportSettings(**asked))


def test_a_target_that_cannot_follow_the_picture_is_told_of(tiny_source: ModelSource) -> None:
    told: list[str] = []
    for target in ("rtx", "openvino"):
        graph = build_graph(tiny_source, ExportSettings(target=target), note=told.append)
        assert graph.routing is not None
        assert graph.routing.mode == "topk"
    assert "--routing adaptive keeps its own" in told[0]
    assert "--routing mask --selection threshold keeps its own" in told[1]
    assert not _notes_of(tiny_source, routing="topk")
    assert not _notes_of(tiny_source, routing="mask", selection="threshold")


def _notes_of(source: ModelSource, **asked: Any) -> list[str]:
    told: list[str] = []
    build_graph(source, ExportSettings(target="rtx", **asked), note=told.append)
    return told
