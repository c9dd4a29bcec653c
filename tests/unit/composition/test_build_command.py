"""`edgevit build`: engines beside bundles, by the real TensorRT-RTX where it is installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgevit import buildable, building
from edgevit.bundle import Bundle, device_dir
from edgevit.bundle_writer import write_bundle
from edgevit.engine_record import EnginePrecision
from edgevit.engine_store import read_engine, record_path
from edgevit.errors import InputError, MissingExtra
from edgevit.export import cuda_driver, trt
from edgevit.export.cuda_driver import Device
from edgevit.spec import RoutingSpec
from edgevit.targets import target_named

ORIN = Device("Orin", "8.7", "CUDA 12.6")
PRECISION = EnginePrecision(
    requested="fp32", products={"fp32": 1.0}, layers={"fp32": 1.0}, weight_bytes={"fp32": 4}, attention={},
    attention_fusable=0, kernels={}, attention_fused=None,
)  # fmt: skip


@pytest.fixture
def real_library() -> None:
    pytest.importorskip("tensorrt_rtx", reason="builds with TensorRT-RTX: pip install 'edgevit[tensorrt-rtx]'")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Callable[[Device | None], None]:
    """Put a GPU into this machine, or take out the one it has."""
    return lambda found: monkeypatch.setattr(cuda_driver, "find_device", lambda: found)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch, device: Callable[[Device | None], None]) -> list[trt.EngineSettings]:
    """A machine with an Orin, TensorRT 10.3 and TensorRT-RTX 1.7, whose builds are noted and give `engine`."""
    asked: list[trt.EngineSettings] = []

    def build(onnx: bytes, library: ModuleType, settings: trt.EngineSettings, progress: object) -> trt.BuiltEngine:
        asked.append(settings)
        cache = None if settings.timing_cache is None else settings.timing_cache + b"timed "
        return trt.BuiltEngine(b"engine", PRECISION, 95.2, cache, ("a note",))

    for name, version in (("tensorrt", "10.3.0"), ("tensorrt_rtx", "1.7.1")):
        module: Any = ModuleType(name)
        module.__version__ = version
        module.Runtime = object
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(trt, "build_engine", build)
    device(ORIN)
    return asked


def with_a_product(bundle: Path, **changes: Any) -> Path:
    """The bundle again with a graph of one linear layer."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"], name="head/MatMul"),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", [1, 3, 8, 8]), ("logits", [1, 3]))
    ]
    weight = numpy_helper.from_array(np.ones((192, 3), np.float32), "w")
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    old = Bundle.open(bundle)
    files = {name: old.read(name) for name in old.manifest.files} | {"model.onnx": model.SerializeToString()}
    return write_bundle(bundle.with_name("product"), replace(old.manifest, **changes), files).path


def test_an_engine_is_built_beside_the_bundle_and_shown(edgevit, make_bundle, real_library) -> None:
    path = with_a_product(make_bundle(routed=False, target="rtx"))
    digest = Bundle.open(path).digest
    done = edgevit("build", path)
    assert (done.status, done.err) == (0, "")
    assert "tensorrt_rtx 1." in done.out and "100.0 % fp32" in done.out and "built ahead of time" in done.out
    bundle = Bundle.open(path)
    record, read = read_engine(bundle, "tensorrt_rtx")
    assert bundle.digest == digest == record.bundle_digest
    assert len(read()) == record.engine.size_bytes
    assert record.onnx_sha256 == bundle.manifest.files["model.onnx"].sha256
    assert (record.target, record.compute_capability, record.device_name) == ("rtx", None, None)
    assert record.precision.products == {"fp32": 1.0}


def test_json_is_the_record_that_stands_beside_the_engine(edgevit, make_bundle, real_library) -> None:
    path = make_bundle(target="cpu-x86")  # the same graph serves several targets
    done = edgevit("build", path, "--target", "rtx", "--compute-capability", "8.9", "--json")
    assert done.status == 0, done.err
    assert done.json["engine"]["size_bytes"] > 0 and done.json["built_for"] == ["8.9"]
    assert done.json["target"] == "rtx"
    assert record_path(Bundle.open(path), "tensorrt_rtx").read_text().count("\n") >= len(done.json)


def test_what_is_there_is_built_again_only_with_force(edgevit, make_bundle, simulated) -> None:
    path = make_bundle(target="jetson-orin")
    assert edgevit("build", path).status == 0
    again = edgevit("build", path)
    assert again.status == 2
    assert again.error.endswith("has an engine of tensorrt 10.3.0 that took 95 s; use --force to build again")
    assert edgevit("build", path, "--force").status == 0
    assert len(simulated) == 2


def test_a_damaged_engine_or_that_of_another_bundle_is_built_anew_unasked(edgevit, make_bundle, simulated) -> None:
    path = make_bundle(target="jetson-orin")
    assert edgevit("build", path).status == 0
    (engine,) = device_dir(Bundle.open(path)).glob("*.engine")
    engine.write_bytes(b"engima")
    assert edgevit("build", path).status == 0
    assert engine.read_bytes() == b"engine"
    other = make_bundle("other", target="jetson-orin", versions={"edgevit": "0.2.0"})
    device_dir(Bundle.open(path)).rename(device_dir(Bundle.open(other)))
    assert edgevit("build", other).status == 0
    assert read_engine(Bundle.open(other), "tensorrt")[1]() == b"engine"


@pytest.mark.parametrize("target, library", [("jetson-orin", "tensorrt"), ("rtx", "tensorrt_rtx")])
def test_an_engine_of_an_older_library_is_built_anew_unasked(
    edgevit, make_bundle, simulated, monkeypatch, target, library
) -> None:
    path = make_bundle(target=target)
    assert edgevit("build", path).status == 0
    assert edgevit("build", path).status == 2
    monkeypatch.setattr(sys.modules[library], "__version__", "99.0")
    assert edgevit("build", path).status == 0
    assert read_engine(Bundle.open(path), library)[0].library_version == "99.0"
    assert len(simulated) == 2


def test_an_engine_of_another_card_is_built_anew_unasked(edgevit, make_bundle, simulated, device) -> None:
    path = make_bundle(target="jetson-orin")
    assert edgevit("build", path).status == 0
    device(replace(ORIN, name="Orin Nano"))
    assert edgevit("build", path, "--json").json["device_name"] == "Orin Nano"


def test_what_a_session_cannot_run_is_built_anew_whatever_its_record_says(make_bundle, simulated, device) -> None:
    bundle = Bundle.open(make_bundle(target="desktop-gpu"))
    for _ in range(2):
        assert building.rebuild_engines(bundle, "rtx")["model.onnx"].target == "rtx"
    device(None)
    with pytest.raises(InputError, match="this machine shows no NVIDIA GPU"):
        building.rebuild_engines(bundle, "rtx")
    assert len(simulated) == 2


def test_the_record_says_on_what_an_engine_was_built(edgevit, make_bundle, simulated) -> None:
    done = edgevit("build", make_bundle(target="jetson-orin"), "--hardware-compatibility", "ampere+", "--json")
    assert done.status == 0
    keys = ("compute_capability", "device_name", "driver", "library_version", "hardware_compatibility", "build_seconds")
    assert [done.json[key] for key in keys] == ["8.7", "Orin", "CUDA 12.6", "10.3.0", "ampere+", 95.2]
    assert done.err == "a note\n"


def test_the_options_reach_the_builder(edgevit, make_bundle, simulated, tmp_path) -> None:
    path, cache = make_bundle(target="jetson-orin"), tmp_path / "timings"
    for _ in range(2):
        options = ["--workspace-mib", "64", "--timing-cache", cache, "--version-compatible", "--force"]
        assert edgevit("build", path, *options).status == 0
    assert [settings.timing_cache for settings in simulated] == [b"", b"timed "]
    assert cache.read_bytes() == b"timed timed "
    assert simulated[0].workspace_bytes == 2**26 and simulated[0].version_compatible


def test_a_timing_cache_that_cannot_be_written_is_refused_before_the_build(
    edgevit, make_bundle, simulated, tmp_path
) -> None:
    done = edgevit("build", make_bundle(target="jetson-orin"), "--timing-cache", tmp_path / "no folder" / "timings")
    assert done.status == 2 and "no folder/timings: no timing cache can be written there" in done.error
    assert simulated == []


def test_a_timing_cache_that_is_refused_after_the_build_is_a_note_and_the_engine_stands(
    edgevit, make_bundle, simulated, tmp_path, monkeypatch
) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise InputError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(building, "atomic_write", refuse)
    path = make_bundle(target="jetson-orin")
    done = edgevit("build", path, "--timing-cache", tmp_path / "timings")
    assert done.status == 0 and "No space left on device" in done.err
    assert read_engine(Bundle.open(path), "tensorrt")[1]() == b"engine"


@pytest.mark.parametrize("mib", [0, -1, 2**44])
def test_scratch_memory_that_is_none_is_refused_in_one_line(edgevit, make_bundle, simulated, mib: int) -> None:
    done = edgevit("build", make_bundle(target="jetson-orin"), f"--workspace-mib={mib}")
    assert done.status == 2 and f"got {mib * 2**20} bytes of scratch memory; wanted 1 MiB or more" in done.error
    assert simulated == []


@pytest.mark.parametrize(
    "target, says",
    [
        ("cpu-x86", "target cpu-x86 runs the graph itself and has no engine to build; wanted --target jetson-orin, "),
        ("toaster", "unknown target 'toaster'"),
        (
            "jetson-orin",
            "target jetson-orin is built on the device itself (sm_87) and this machine shows no NVIDIA GPU",
        ),
        ("desktop-gpu", "copy the bundle to such a device (desktop or server GPU, TensorRT 11) and run the same"),
    ],
)
def test_where_a_target_can_be_built_is_one_line(edgevit, bundle, device, target, says) -> None:
    device(None)
    done = edgevit("build", bundle, "--target", target)
    assert done.status == 2 and says in done.error
    assert not device_dir(Bundle.open(bundle)).exists()


@pytest.mark.parametrize(
    "target, capability, fits",
    [
        ("jetson-orin", "8.7", True),
        ("jetson-orin", "8.9", False),
        ("jetson-thor", "11.0", True),
        ("jetson-thor", "12.0", False),
        ("desktop-gpu", "8.0", True),
        ("desktop-gpu", "12.0", True),
        ("desktop-gpu", "7.5", False),
    ],
)
def test_an_engine_is_built_on_the_kind_of_device_that_runs_it(target: str, capability: str, fits: bool) -> None:
    row = target_named(target)
    found = Device("a card", capability, "CUDA 12.6")
    if fits:
        buildable.check_device(row, found)
    else:
        number = capability.replace(".", "")
        with pytest.raises(InputError, match=rf"this machine has sm_{number} \(a card\).*choose another --target"):
            buildable.check_device(row, found)


def test_a_graph_that_is_none_for_the_target_is_refused_with_the_way_out(make_bundle) -> None:
    row = target_named("rtx")
    bundle = Bundle.open(make_bundle())
    routing = RoutingSpec(
        mode="adaptive", router="expert_choice", selection="threshold", steps=2, grid=(2, 2), thresholds=(0.0,),
        budgets=((0, 4),),
    )  # fmt: skip
    for changes, says in (
        ({"routing": routing}, "is adaptive in one graph, and on TensorRT an If may cost all its branches; export it "),
        ({"opset": 23}, "is of opset 23, target rtx reads 20; export it again with --target rtx"),
    ):
        changed = replace(bundle, manifest=replace(bundle.manifest, **changes))
        with pytest.raises(InputError, match=says):
            buildable.check_buildable(changed, row)
    half = replace(bundle, manifest=replace(bundle.manifest, precision_achieved="fp16"))
    with pytest.raises(InputError, match="is fp16, target rtx takes fp32; export it again"):
        buildable.check_buildable(half, replace(row, precisions=("fp32",)))


def test_a_precision_that_was_not_met_exits_1_and_leaves_the_old_engine(edgevit, make_bundle, real_library) -> None:
    """The planted fault: a bundle whose manifest says fp16 and whose graph computes in fp32."""
    path = with_a_product(
        make_bundle(routed=False, target="rtx"), precision_requested="fp16", precision_achieved="fp16"
    )
    device_dir(Bundle.open(path)).mkdir()
    (device_dir(Bundle.open(path)) / "kept").write_text("kept")
    done = edgevit("build", path)
    assert done.status == 1
    assert done.error.startswith("asked for fp16, but of its weights the network multiplies 100 % fp32")
    assert os.listdir(device_dir(Bundle.open(path))) == ["kept"]


def test_a_library_that_is_missing_or_broken_is_one_line(make_bundle, device, monkeypatch, tmp_path) -> None:
    path = make_bundle(target="jetson-orin")
    device(ORIN)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtra, match=r"pip install 'edgevit\[tensorrt\]'"):
        building.build_engines(path)

    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt")
    with pytest.raises(InputError, match=r"tensorrt is installed and does not load \(libnvinfer"):
        building.build_engines(path)


def test_the_graph_is_not_handed_to_the_builder_before_its_hash_was_checked(make_bundle, simulated) -> None:
    path = make_bundle(target="jetson-orin")
    graph = (path / "model.onnx").read_bytes()
    (path / "model.onnx").write_bytes(b"X" + graph[1:])
    with pytest.raises(InputError, match="SHA-256 differs"):
        building.build_engines(path)
    assert simulated == []


def test_a_build_needs_neither_torch_nor_onnx(make_bundle, simulated, monkeypatch) -> None:
    path = make_bundle(target="jetson-orin")
    for name in ("torch", "onnx", "onnx_ir", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith(("edgevit.export.network", "edgevit.export.engine"))]:
        monkeypatch.delitem(sys.modules, name)
    assert building.build_engines(path)["model.onnx"].library_version == "10.3.0"


# A build of its own process that is interrupted, or killed, as soon as it tells how far it is.
CHILD = """
import os, signal, sys
from edgevit.building import build_engines
signal.signal(signal.SIGINT, signal.default_int_handler)
number = getattr(signal, sys.argv[2])
build_engines(sys.argv[1], force=True, report=lambda progress: os.kill(os.getpid(), number) or True)
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGKILL"])
def test_a_build_that_is_killed_half_way_leaves_bundle_and_engine_as_they_were(
    make_bundle, real_library, number: str
) -> None:
    path = with_a_product(make_bundle(routed=False, target="rtx"))
    building.build_engines(path)
    bundle = Bundle.open(path)
    before = {entry.name: entry.read_bytes() for folder in (path, device_dir(bundle)) for entry in folder.iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), number], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == -getattr(signal, number) or "KeyboardInterrupt" in done.stderr, done.stderr
    assert {e.name: e.read_bytes() for folder in (path, device_dir(bundle)) for e in folder.iterdir()} == before
    assert len(read_engine(bundle, "tensorrt_rtx")[1]()) > 0
