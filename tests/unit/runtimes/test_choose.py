from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

import numpy as np
import pytest
from cuda_device import SimulatedDevice, install_cuda_bindings
from engine_records import engine_record
from simulated_runner import ENGINE
from tensorrt_module import SimulatedLibrary

from edgevit.bundle import Bundle, device_dir
from edgevit.engine_record import EnginePrecision, NoEngine
from edgevit.engine_store import read_engine, write_engine
from edgevit.errors import FallbackWarning, InputError, MissingExtra
from edgevit.files import sha256
from edgevit.manifest import FileRecord
from edgevit.runtimes import choose
from edgevit.runtimes.choose import RUNTIMES, Runtime, open_runner
from edgevit.runtimes.null_runner import NullRunner
from edgevit.runtimes.session import load
from edgevit.spec import TensorSpec


def named(name: str) -> Runtime:
    return next(runtime for runtime in RUNTIMES if runtime.name == name)


def test_every_runtime_has_a_name_of_its_own_and_one_line():
    names = [runtime.name for runtime in RUNTIMES]
    assert names == ["ort", "ort-cuda", "ort-trt", "trt", "trt-rtx", "ov", "null"]
    assert all(runtime.description and "\n" not in runtime.description for runtime in RUNTIMES)
    assert all((runtime.library is None) == (runtime.extra is None and runtime.remedy is None) for runtime in RUNTIMES)


@pytest.mark.parametrize(
    "library, names", [("onnxruntime", ("ort", "ort-cuda", "ort-trt")), ("tensorrt_rtx", ("trt-rtx",))]
)
def test_a_runtime_is_not_installed_without_its_library(monkeypatch, library, names):
    monkeypatch.setitem(sys.modules, library, None)
    assert not any(named(name).installed for name in names)
    assert named("null").installed


@pytest.mark.parametrize("built_in", [True, False])
def test_a_runtime_on_a_provider_needs_an_onnxruntime_that_has_it(monkeypatch, built_in):
    onnxruntime = pytest.importorskip("onnxruntime", reason="providers are its own")
    there = ["CUDAExecutionProvider"] * built_in + ["CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    assert named("ort").installed
    assert named("ort-cuda").installed == built_in
    assert not named("ort-trt").installed


def test_type_stubs_are_not_taken_for_tensorrt(monkeypatch, tmp_path):
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.pyi").touch()
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert find_spec("tensorrt") is not None, "Python would import the folder"
    assert not named("trt").installed


def test_an_unknown_runtime_is_refused_with_those_there_are(make_bundle):
    with pytest.raises(InputError, match=r"unknown runtime 'gpu'; wanted auto or one of: ort, ort-cuda, .*, null"):
        open_runner(make_bundle(), "gpu")


def test_a_runtime_whose_library_is_missing_names_the_extra(make_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    bundle = make_bundle()
    for runtime in ("ort", "auto"):
        with pytest.raises(MissingExtra, match=r"edgevit\[cpu\]"):
            open_runner(bundle, runtime)


@pytest.mark.parametrize("runtime", ["auto", "ort"])
@pytest.mark.parametrize("as_path", [True, False])
def test_a_bundle_or_its_folder_becomes_a_runner_on_its_targets_runtime(make_bundle, make_model, runtime, as_path):
    pytest.importorskip("onnxruntime", reason="the runtime of target cpu-x86")
    bundle = make_bundle(make_model(), routed=False)
    with open_runner(str(bundle.path) if as_path else bundle, runtime, threads=1) as runner:
        assert runner.facts["runtime"] == "ort"
        assert runner.facts["threads"] == 1
        image = np.full((1, 3, 8, 8), 0.5, np.float32)
        np.testing.assert_allclose(runner(image)["logits"], [[0.5, 0.5, 0.5]])


def test_null_has_the_shapes_of_the_manifest(make_bundle):
    bundle = make_bundle()
    runner = open_runner(bundle, "null")
    assert isinstance(runner, NullRunner)
    with runner:
        assert (runner.input, runner.outputs) == (bundle.manifest.input, bundle.manifest.outputs)


@pytest.mark.parametrize(
    "target, library", [("jetson-orin", "tensorrt"), ("rtx", "tensorrt_rtx"), ("openvino", "openvino")]
)
def test_auto_does_not_fall_back_when_the_targets_runtime_is_not_there(make_bundle, monkeypatch, target, library):
    monkeypatch.setitem(sys.modules, library, None)
    bundle = make_bundle(target=target)
    with pytest.raises(MissingExtra, match=f"{library} is not installed"):
        open_runner(bundle)
    assert open_runner(bundle, "null")  # a runtime that is named is taken, whatever the target


def test_auto_does_not_fall_back_when_edgevit_has_no_such_runtime(make_bundle, monkeypatch):
    monkeypatch.setattr(choose, "RUNTIMES", tuple(runtime for runtime in RUNTIMES if runtime.name != "ov"))
    with pytest.raises(InputError, match="is for target openvino, and this edgevit has no runtime ov"):
        open_runner(make_bundle(target="openvino"))


@pytest.fixture
def installed(monkeypatch) -> SimulatedLibrary:
    """TensorRT, simulated."""
    image = TensorSpec("image", "float32", (1, 3, 8, 8))
    tensors = [(True, image), (False, TensorSpec("logits", "float32", (1, 3)))]
    simulated = SimulatedLibrary(SimulatedDevice(), tensors, lambda image: {"logits": image.mean(axis=(2, 3))})
    module = simulated.module()
    module.__spec__ = ModuleSpec("tensorrt", None, origin="simulated")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    install_cuda_bindings(monkeypatch, simulated.device)
    return simulated


def with_engine(bundle: Bundle, **changes: object) -> Bundle:
    """The bundle with an engine beside it, built as its record says."""
    built = {
        "bundle_digest": bundle.digest,
        "onnx_sha256": bundle.manifest.files["model.onnx"].sha256,
        "engine": FileRecord(sha256=sha256(ENGINE), size_bytes=len(ENGINE)),
    }
    precision = EnginePrecision(
        requested="fp32", products={}, layers={}, weight_bytes={}, attention={}, attention_fusable=0, kernels={},
        attention_fused=None,
    )  # fmt: skip
    write_engine(bundle, ENGINE, engine_record(**(built | {"precision": precision} | changes)))
    return bundle


def test_a_bundle_with_an_engine_runs_on_it(make_bundle, installed):
    with open_runner(with_engine(make_bundle(routed=False, target="jetson-orin"))) as runner:
        assert runner.facts["runtime"] == "trt"
        image = np.full((1, 3, 8, 8), 0.5, np.float32)
        np.testing.assert_allclose(runner(image)["logits"], [[0.5, 0.5, 0.5]])
    assert installed.loaded == [ENGINE]


def test_a_tensorrt_that_does_not_load_leaves_the_bundle_to_the_next(make_bundle, make_model, monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime", reason="stands in for TensorRT")
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    bundle = with_engine(make_bundle(make_model(), routed=False, target="jetson-orin"))
    with (
        pytest.warns(FallbackWarning, match=r"tensorrt is installed and does not load \(libnvinfer"),
        load(bundle) as here,
    ):
        assert here.health().passed_over[0].runtime == "trt"


def test_an_engine_of_an_older_tensorrt_is_rebuilt_by_a_session_that_may(make_bundle, installed, monkeypatch):
    """With the product's own building, of which only TensorRT's part is simulated."""
    import edgevit
    from edgevit.export import cuda_driver, trt

    bundle = with_engine(make_bundle(routed=False, target="jetson-orin"), library_version="10.2.0")
    built = trt.BuiltEngine(b"the new engine", read_engine(bundle, "tensorrt")[0].precision, 1.0, None, ())
    monkeypatch.setattr(trt, "build_engine", lambda *arguments: built)
    monkeypatch.setattr(cuda_driver, "find_device", lambda: cuda_driver.Device("Simulated", "8.7", "CUDA 12.6"))
    with pytest.raises(NoEngine, match=r"was built by tensorrt 10\.2\.0 and this is 10\.3\.0"):
        edgevit.load(bundle, "trt")
    with edgevit.load(bundle, rebuild=True) as session:
        assert session.health().runtime == "trt" and not session.health().degraded
    assert installed.loaded == [b"the new engine"]
    assert read_engine(bundle, "tensorrt")[0].library_version == "10.3.0"


def test_a_bundle_without_an_engine_says_how_to_build_one(make_bundle, installed):
    bundle = make_bundle(target="jetson-orin")
    with pytest.raises(InputError, match=r"has no engine of tensorrt; run: edgevit build .* --target jetson-orin"):
        open_runner(bundle)


def test_an_engine_that_was_changed_is_never_loaded(make_bundle, installed):
    bundle = with_engine(make_bundle(routed=False, target="jetson-orin"))
    (engine,) = device_dir(bundle).glob("*.engine")
    engine.write_bytes(ENGINE[:-1] + b"!")
    with pytest.raises(InputError, match=r"run: edgevit build .* --target jetson-orin"), open_runner(bundle):
        pass
    assert installed.loaded == []


def test_an_engine_of_another_card_names_the_command_that_rebuilds(make_bundle, installed):
    bundle = with_engine(make_bundle(routed=False, target="jetson-orin"), compute_capability="8.6")
    wanted = r"compute capability 8\.6 and this device has 8\.7; run: edgevit build .* --target jetson-orin"
    with pytest.raises(InputError, match=wanted), open_runner(bundle):
        pass
    assert installed.loaded == []


@pytest.mark.parametrize("runtime", ["ort-cuda", "ort-trt", "trt"])
def test_a_provider_beside_a_runtime_that_fixes_it_is_refused(make_bundle, runtime):
    with pytest.raises(InputError, match=f"got provider CPUExecutionProvider for runtime {runtime}"):
        open_runner(make_bundle(), runtime, provider="CPUExecutionProvider")


def test_a_provider_that_is_not_there_is_refused(make_bundle):
    pytest.importorskip("onnxruntime", reason="providers are its own")
    with pytest.raises(InputError, match="got MoonExecutionProvider"):
        open_runner(make_bundle(), "ort", provider="MoonExecutionProvider")


def test_a_provider_for_the_runtime_that_has_none_is_refused(make_bundle):
    with pytest.raises(InputError, match="runtime null, which has none"):
        open_runner(make_bundle(), "null", provider="CPUExecutionProvider")


def test_a_graph_changed_after_the_bundle_was_opened_is_not_loaded(make_bundle, make_model):
    pytest.importorskip("onnxruntime", reason="the runtime of target cpu-x86")
    model = make_model()
    bundle = make_bundle(model, routed=False)
    runner = open_runner(bundle)
    flipped = bytearray(model)
    flipped[len(model) // 2] ^= 1
    (bundle.path / "model.onnx").write_bytes(flipped)
    with pytest.raises(InputError, match="SHA-256 differs"), runner:
        pass


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_runner(tmp_path / "none")
