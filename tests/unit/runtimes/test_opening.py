"""From a bundle in stages to one runner, on each runtime that takes one."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from cuda_device import SimulatedDevice, install_cuda_bindings
from engine_records import engine_record
from tensorrt_module import SimulatedLibrary

from edgevit.bundle import Bundle
from edgevit.engine_record import EnginePrecision, NoEngine
from edgevit.engine_store import write_engine
from edgevit.errors import InputError
from edgevit.files import sha256
from edgevit.manifest import FileRecord
from edgevit.probes import LayerProfiler
from edgevit.runner import Runner
from edgevit.runtimes.adaptive_device import AdaptiveDeviceRunner
from edgevit.runtimes.choose import open_runner
from edgevit.runtimes.session import load

pytest.importorskip("onnx", reason="the graphs of the bundle are built with it")
from staged_bundle import ACTIVE, BUDGETS, IMAGE, OUTPUTS, STATE, TOKENS, first, rest, write_staged


def picture(active: int) -> np.ndarray:
    return np.full(IMAGE.shape, (active + 0.5) / TOKENS, np.float32)


def assert_runs(runner: Runner) -> None:
    """It answers with what the stages compute, each picture in the smallest budget that holds it."""
    assert (runner.input, runner.outputs) == (IMAGE, OUTPUTS)
    assert runner.facts["budgets"] == "0, 2, 6"
    for active, budget in ((0, 0), (1, 2), (2, 2), (3, 6), (5, 6), (0, 0)):
        answer = runner(picture(active))
        np.testing.assert_allclose(answer["logits"], [[active + 0.5]], rtol=1e-5)
        assert answer["counts"].tolist() == [[TOKENS, active, budget]]


@pytest.mark.parametrize("runtime, library", [("ort", "onnxruntime"), ("ov", "openvino")])
def test_stages_run_as_one_graph_would(tmp_path, runtime, library):
    pytest.importorskip(library, reason=f"runtime {runtime}")
    with open_runner(write_staged(tmp_path / "bundle"), runtime, threads=1) as runner:
        assert runner.facts["runtime"] == runtime and runner.facts["threads"] == 1
        assert_runs(runner)


def test_on_onnx_runtime_the_threads_of_a_stage_leave_the_cpu_to_the_next_and_layers_can_be_timed(tmp_path):
    pytest.importorskip("onnxruntime", reason="runtime ort")
    with open_runner(write_staged(tmp_path / "bundle"), "ort") as runner:
        assert runner.facts["between_runs"] == "threads rest"
        assert isinstance(runner, LayerProfiler)
        operators = [{time.operator for time in runner.profile([picture(5)]) if time.query == 0}]
    assert operators[0] >= {"ReduceMean", "Concat"}


def test_the_worst_case_has_room_for_all_tokens_whatever_the_picture(tmp_path):
    pytest.importorskip("onnxruntime", reason="runtime ort")
    bundle = write_staged(tmp_path / "bundle")
    with open_runner(bundle, "ort", least=TOKENS) as runner:
        assert runner(picture(0))["counts"].tolist() == [[TOKENS, 0, TOKENS]]
    with pytest.raises(InputError, match="room for 7 tokens at least, wanted one that budgets 0, 2, 6 have"):
        open_runner(bundle, "ort", least=7)


def test_the_budgets_of_one_graph_are_nobodys_to_choose(make_bundle):
    with pytest.raises(InputError, match=r"is one graph, .*; wanted least 0, got 2"):
        open_runner(make_bundle(), "null", least=2)


def test_a_session_of_stages_is_like_any_other(tmp_path):
    pytest.importorskip("onnxruntime", reason="runtime ort")
    with load(write_staged(tmp_path / "bundle")) as session:
        bright = session.predict(np.full((8, 8, 3), 255, np.uint8))
        assert bright.label == "steel"
        assert session.health().facts["budgets"] == "0, 2, 6"


def test_nothing_of_a_bundle_in_stages_is_computed_on_null(tmp_path):
    with open_runner(write_staged(tmp_path / "bundle"), "null") as runner:
        assert not runner(picture(5))["counts"].any()


def test_a_stage_changed_after_the_bundle_was_opened_is_not_loaded(tmp_path):
    pytest.importorskip("onnxruntime", reason="runtime ort")
    bundle = write_staged(tmp_path / "bundle")
    file = bundle.path / "rest-2.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(InputError, match=r"rest-2\.onnx: SHA-256 differs"), open_runner(bundle, "ort"):
        pass


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> SimulatedLibrary:
    """TensorRT, simulated, which knows each stage by the bytes that are its engine's here: its file's name."""
    answers = {"enter.onnx": (IMAGE, (STATE, ACTIVE), first)}
    answers |= {f"rest-{budget}.onnx": (STATE, OUTPUTS, rest(budget)) for budget in BUDGETS}
    engines = {
        # In the other order: that of an engine's outputs is nobody's promise.
        name.encode(): ([(True, taken), *((False, spec) for spec in reversed(given))], answer)
        for name, (taken, given, answer) in answers.items()
    }
    simulated = SimulatedLibrary(SimulatedDevice(), [], first, others=engines)
    module = simulated.module()
    module.__spec__ = ModuleSpec("tensorrt", None, origin="simulated")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    install_cuda_bindings(monkeypatch, simulated.device)
    return simulated


def put_engine(bundle: Bundle, graph: str) -> None:
    engine = graph.encode()
    precision = EnginePrecision(
        requested="fp32", products={}, layers={}, weight_bytes={}, attention={}, attention_fusable=0, kernels={},
        attention_fused=None,
    )  # fmt: skip
    record = engine_record(
        bundle_digest=bundle.digest,
        onnx_sha256=bundle.manifest.files[graph].sha256,
        engine=FileRecord(sha256=sha256(engine), size_bytes=len(engine)),
        precision=precision,
    )
    write_engine(bundle, engine, record, graph)


def test_on_tensorrt_every_stage_is_an_engine_and_the_state_stays_on_the_device(tmp_path, installed):
    bundle = write_staged(tmp_path / "bundle", target="jetson-orin")
    for graph in bundle.graphs:
        put_engine(bundle, graph)
    with open_runner(bundle) as runner:
        assert isinstance(runner, AdaptiveDeviceRunner)
        assert runner.facts["runtime"] == "trt" and runner.facts["cuda_graph"] == "yes"
        assert_runs(runner)
    assert installed.loaded == [graph.encode() for graph in bundle.graphs]
    assert installed.device.live == {}


def test_an_engine_that_one_stage_lacks_is_named_with_the_command(tmp_path, installed):
    bundle = write_staged(tmp_path / "bundle", target="jetson-orin")
    for graph in bundle.graphs[:-1]:
        put_engine(bundle, graph)
    wanted = r"has no engine of tensorrt for rest-6\.onnx; run: edgevit build .* --target jetson-orin"
    with pytest.raises(NoEngine, match=wanted):
        open_runner(bundle)


def test_a_start_imports_the_runner_that_runs_and_no_other(tmp_path):
    pytest.importorskip("onnxruntime", reason="runtime ort")
    bundle = write_staged(tmp_path / "bundle")
    program = (
        "import sys; from edgevit.runtimes.choose import open_runner; "
        f"open_runner({str(bundle.path)!r}, 'ort'); "
        "print([name for name in ('ov', 'trt', 'null_runner') if f'edgevit.runtimes.{name}' in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout == "[]\n"
