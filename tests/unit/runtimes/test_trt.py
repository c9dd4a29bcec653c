"""The runner of engines beyond the contract: what it asks before loading, graphs, tensors on the device, times."""

from __future__ import annotations

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_device import SimulatedDevice
from engine_records import engine_record
from simulated_runner import ENGINE, simulated_runner
from tensorrt_module import SimulatedLibrary

from edgevit.errors import InputError, MissingExtra
from edgevit.probes import DeviceTimer, DeviceTimes
from edgevit.runtimes.device_arrays import CUDA, DeviceArray
from edgevit.runtimes.trt import TrtRunner
from edgevit.spec import TensorSpec

IMAGE = TensorSpec("image", "float32", (1, 3, 8, 8))
LOGITS, DEPTH = TensorSpec("logits", "float32", (1, 3)), TensorSpec("depth", "int32", (1, 64))
PICTURE = np.random.default_rng(1).random(IMAGE.shape, dtype=np.float32)
AGAIN = "run: edgevit build d/topk --target jetson-orin"
BINDINGS = ("cuda-bindings", "pycuda")


def answer(image: np.ndarray) -> dict[str, np.ndarray]:
    return {"logits": image.mean(axis=(2, 3)), "depth": (image[:, 0] * 9).astype(np.int32).reshape(1, 64)}


def library(name: str = "tensorrt", **changes: Any) -> SimulatedLibrary:
    tensors = [(True, IMAGE), (False, LOGITS), (False, DEPTH)]
    return SimulatedLibrary(
        **{"device": SimulatedDevice(), "tensors": tensors, "answer": answer, "name": name} | changes
    )


def refusal_to_load(runner: TrtRunner) -> str:
    with pytest.raises(InputError) as refusal, runner:
        pass
    line = str(refusal.value)
    assert len(line.splitlines()) == 1
    return line


class OnDevice:
    """A tensor of another library on the device, as DLPack shows it; `asked` keeps the streams it was asked for."""

    def __init__(self, device: SimulatedDevice, values: np.ndarray, number: int = 0, shift: int = 0) -> None:
        address = device.allocate(values.nbytes + 256, "device memory") + shift
        ctypes.memmove(address, values.ctypes.data, values.nbytes)
        self._array = DeviceArray(address, values.shape, str(values.dtype), (CUDA, number))
        self.asked: list[object] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.device

    def __dlpack__(self, *, stream: object = None) -> Any:
        self.asked.append(stream)
        return self._array.__dlpack__()


def on_host(array: DeviceArray) -> np.ndarray:
    """An output on the simulated device, which is the host's memory."""
    return np.from_dlpack(replace(array, device=(1, 0)))


@pytest.mark.parametrize("name, extra", [("tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt-rtx")])
def test_without_the_library_the_line_says_which_extra_brings_it(monkeypatch, name, extra):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=rf"edgevit\[{extra}\]"):
        TrtRunner(lambda: ENGINE, name)


def test_type_stubs_are_not_taken_for_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    with pytest.raises(MissingExtra):
        TrtRunner(lambda: ENGINE, "tensorrt")


def test_a_library_that_lacks_something_itself_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("import a_library_that_is_not_there")
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        InputError, match=r"does not load \(.*a_library_that_is_not_there.*mend the installation"
    ) as error:
        TrtRunner(lambda: ENGINE, "tensorrt")
    assert not isinstance(error.value, MissingExtra)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)


def test_an_engine_of_another_hash_is_never_loaded():
    """Its bytes come from a reader that checks them; when that refuses, the library has not been given any."""

    def refuse() -> bytes:
        raise InputError("tensorrt.engine: is not the engine that its record describes")

    simulated = library()
    assert "not the engine" in refusal_to_load(simulated_runner(simulated, engine=refuse))
    assert simulated.loaded == []
    assert simulated.device.live == {}


@pytest.mark.parametrize(
    "changes, wanted",
    [
        ({"library_version": "10.7.0"}, "was built by tensorrt 10.7.0 and this is 10.3.0"),
        ({"compute_capability": "8.6"}, "was built for compute capability 8.6 and this device has 8.7"),
    ],
)
def test_an_engine_of_another_version_or_card_is_not_even_read(changes, wanted):
    simulated = library()
    reads: list[int] = []
    runner = simulated_runner(
        simulated, engine=lambda: reads.append(1) or ENGINE, record=engine_record(**changes), again=AGAIN
    )
    line = refusal_to_load(runner)
    assert wanted in line and line.endswith(AGAIN)
    assert reads == [] and simulated.loaded == []


@pytest.mark.parametrize("compatible", [False, True])
def test_host_code_is_allowed_for_engines_that_carry_a_runtime_alone(compatible):
    simulated = library()
    with simulated_runner(simulated, record=engine_record(version_compatible=compatible)):
        assert simulated.loaded == [ENGINE]
        assert simulated.host_code_allowed == [compatible]


@pytest.mark.parametrize("binding", BINDINGS)
def test_an_engine_that_does_not_load_is_one_line_with_what_the_library_said(binding, capfd):
    simulated = library(complaint="Version tag does not match.\nNote: Current Version: 236")
    line = refusal_to_load(simulated_runner(simulated, binding, again=AGAIN))
    assert "tensorrt 10.3.0 cannot load the engine: Version tag does not match. Note: Current Version: 236" in line
    assert "not to be told" not in line and line.endswith(AGAIN)
    assert capfd.readouterr() == ("", "")
    assert simulated.device.live == {}


def test_what_the_library_throws_without_a_word_in_its_log_is_told():
    line = refusal_to_load(simulated_runner(library(breaks="CUDA driver version\nis insufficient"), again=AGAIN))
    assert line == f"tensorrt failed: CUDA driver version is insufficient; {AGAIN}"


def test_what_the_library_warns_of_while_loading_is_a_fact():
    warning = "Using an engine plan file across different models of devices\nis not recommended"
    with simulated_runner(library(warning=warning)) as runner:
        assert runner.facts["engine_warnings"] == " ".join(warning.split())
    with simulated_runner(library()) as runner:
        assert "engine_warnings" not in runner.facts


def test_an_engine_of_another_card_of_the_same_kind_is_refused_with_the_command():
    line = refusal_to_load(simulated_runner(library(), record=engine_record(device_name="Orin Nano"), again=AGAIN))
    assert line == f"the engine was built on Orin Nano for that card alone and this is Simulated; {AGAIN}"


def test_rtx_is_asked_for_the_validity_before_it_is_given_the_engine():
    simulated = library("tensorrt_rtx", invalid=3)
    line = refusal_to_load(simulated_runner(simulated, again=AGAIN))
    assert "does not run here (version mismatch, unsupported cc)" in line and line.endswith(AGAIN)
    assert simulated.loaded == []


@pytest.mark.parametrize("suboptimal", [False, True])
def test_facts_repeat_what_rtx_said_of_the_engine(suboptimal):
    with simulated_runner(library("tensorrt_rtx", suboptimal=suboptimal)) as runner:
        assert runner.facts["engine"] == ("suboptimal" if suboptimal else "valid")


@pytest.mark.parametrize(
    "tensors, wanted",
    [
        ([(True, replace(IMAGE, dtype="float16")), (False, LOGITS)], "inputs image: float16 1 x 3 x 8 x 8, wanted one"),
        ([(True, IMAGE), (True, replace(IMAGE, name="more")), (False, LOGITS)], "more: float32"),
        ([(True, replace(IMAGE, shape=(-1, 3, 8, 8))), (False, LOGITS)], "wanted fixed sizes"),
        ([(True, IMAGE), (False, replace(LOGITS, dtype="bfloat16"))], "logits: BF16"),
        ([(True, IMAGE), (False, LOGITS)], "outputs logits, wanted logits, depth"),
    ],
)
def test_an_engine_of_another_form_is_refused(tensors, wanted):
    simulated = library(tensors=tensors)
    line = refusal_to_load(simulated_runner(simulated, output_names=("logits", "depth"), again=AGAIN))
    assert wanted in line and line.endswith(AGAIN)
    assert simulated.device.live == {}


def test_outputs_come_in_the_order_asked_for():
    with simulated_runner(library(), output_names=("depth", "logits")) as runner:
        assert runner.outputs == (DEPTH, LOGITS)
        assert list(runner(PICTURE)) == ["depth", "logits"]


@pytest.mark.parametrize("binding", BINDINGS)
def test_everything_is_freed_when_it_is_left(binding):
    simulated = library()
    for _ in range(2):
        with simulated_runner(simulated, binding) as runner:
            runner(PICTURE)
            assert {"device memory", "pinned memory", "stream"} <= set(simulated.device.live.values())
        assert simulated.device.live == {}


@pytest.mark.parametrize("binding", BINDINGS)
def test_no_memory_left_is_one_line_and_frees_what_there_was(binding):
    simulated = library()
    simulated.device.refuse["pinned memory"] = "out of memory"
    assert "CUDA failed: out of memory" in refusal_to_load(simulated_runner(simulated, binding))
    assert simulated.device.live == {}


def test_calls_make_no_memory():
    simulated = library()
    with simulated_runner(simulated) as runner:
        before = dict(simulated.device.live)
        for _ in range(3):
            runner(PICTURE)
        assert simulated.device.live == before


def test_kernels_are_replayed_as_one_graph():
    simulated = library()
    with simulated_runner(simulated) as runner:
        assert runner.facts["cuda_graph"] == "yes"
        simulated.device.calls.clear()
        np.testing.assert_array_equal(runner(PICTURE)["logits"], answer(PICTURE)["logits"])
        assert simulated.device.calls.count("launch graph") == 1
        assert "execute" not in simulated.device.calls


@pytest.mark.parametrize(
    "simulated, binding, settings, reason",
    [
        (library(capturable=False), "cuda-bindings", {}, "the library says that the engine cannot be captured"),
        (library(), "pycuda", {}, "pycuda has no capture of streams"),
        (library(), "cuda-bindings", {"cuda_graphs": False}, "turned off"),
    ],
)
def test_without_a_graph_facts_say_why_and_the_answer_is_the_same(simulated, binding, settings, reason):
    with simulated_runner(simulated, binding, **settings) as runner:
        assert runner.facts["cuda_graph"] == f"no ({reason})"
        simulated.device.calls.clear()
        np.testing.assert_array_equal(runner(PICTURE)["logits"], answer(PICTURE)["logits"])
        assert simulated.device.calls.count("execute") == 1


@pytest.mark.parametrize("call", ["end capture", "launchable graph"])
def test_a_capture_that_fails_leaves_the_stream_working(call):
    simulated = library()
    simulated.device.refuse[call] = "operation would make the legacy stream depend on a capturing stream"
    with simulated_runner(simulated) as runner:
        assert "no (CUDA failed: operation would make" in runner.facts["cuda_graph"]
        np.testing.assert_array_equal(runner(PICTURE)["logits"], answer(PICTURE)["logits"])
    assert simulated.device.live == {}


def test_an_engine_that_fails_while_running_is_one_line():
    simulated = library("tensorrt", capturable=False)
    with simulated_runner(simulated) as runner:
        simulated.fails_running = True
        with pytest.raises(InputError, match="failed while running: IExecutionContext::enqueueV3: an illegal memory"):
            runner(PICTURE)
        simulated.fails_running = False
        np.testing.assert_array_equal(runner(PICTURE)["logits"], answer(PICTURE)["logits"])


def test_a_tensor_on_the_device_is_read_where_it_lies():
    simulated = library()
    with simulated_runner(simulated) as runner:
        tensor = OnDevice(simulated.device, PICTURE)
        simulated.device.calls.clear()
        np.testing.assert_array_equal(runner(tensor)["logits"], answer(PICTURE)["logits"])
        assert simulated.device.calls.count("copy") == 1, "the answer's; the image was not copied"
        stream = next(handle for handle, kind in simulated.device.live.items() if kind == "stream")
        assert tensor.asked == [stream], "its owner is told who reads it"
        # and the runner's own buffer serves the next array
        np.testing.assert_array_equal(runner(2 * PICTURE)["logits"], answer(2 * PICTURE)["logits"])


def test_a_ring_of_tensors_is_captured_when_it_comes_round_again():
    simulated = library()
    with simulated_runner(simulated) as runner:
        ring = [OnDevice(simulated.device, factor * PICTURE) for factor in (1, 2, 3)]
        executed = []
        for _ in range(3):
            simulated.device.calls.clear()
            for factor, tensor in enumerate(ring, start=1):
                np.testing.assert_array_equal(runner(tensor)["logits"], answer(factor * PICTURE)["logits"])
            executed.append((simulated.device.calls.count("launch graph"), simulated.device.calls.count("end capture")))
        assert executed == [(0, 0), (3, 3), (3, 0)]


def test_tensors_without_end_are_not_captured_without_end():
    simulated = library()
    with simulated_runner(simulated) as runner:
        tensors = [OnDevice(simulated.device, PICTURE) for _ in range(12)]
        for tensor in [*tensors, *tensors, *tensors]:
            np.testing.assert_array_equal(runner(tensor)["logits"], answer(PICTURE)["logits"])
        assert list(simulated.device.live.values()).count("launchable graph") == 8


def test_a_tensor_that_tensorrt_could_not_read_there_is_moved_first():
    simulated = library()
    with simulated_runner(simulated) as runner:
        tensor = OnDevice(simulated.device, PICTURE, shift=16)
        np.testing.assert_array_equal(runner(tensor)["logits"], answer(PICTURE)["logits"])


def test_outputs_may_stay_on_the_device():
    simulated = library()
    with simulated_runner(simulated) as runner:
        simulated.device.calls.clear()
        outputs = runner.run_on_device(OnDevice(simulated.device, PICTURE))
        assert "copy" not in simulated.device.calls
        for name, value in answer(PICTURE).items():
            assert outputs[name].device == (CUDA, 0)
            np.testing.assert_array_equal(on_host(outputs[name]), value)


@pytest.mark.parametrize("names", [[], ["depth"], ["logits"], ["logits", "depth"]])
def test_just_the_outputs_that_are_asked_for_come_to_the_host(names):
    with simulated_runner(library()) as runner:
        on_the_host, lying = runner.run_split(PICTURE, names)
        assert list(on_the_host) == names
        for name, value in answer(PICTURE).items():
            np.testing.assert_array_equal(on_host(lying[name]), value)
            if name in names:
                np.testing.assert_array_equal(on_the_host[name], value)


def test_a_tensor_of_the_host_is_taken_for_an_array():
    torch = pytest.importorskip("torch", reason="a library with tensors")
    with simulated_runner(library()) as runner:
        np.testing.assert_array_equal(runner(torch.tensor(PICTURE))["logits"], answer(PICTURE)["logits"])
        with pytest.raises(InputError, match="cannot be shared"):
            runner(torch.tensor(PICTURE, requires_grad=True))


@pytest.mark.parametrize(
    "values, number, wanted",
    [
        (PICTURE.astype(np.float16), 0, "got image: float16 1 x 3 x 8 x 8, wanted image: float32"),
        (PICTURE[:, :2], 0, "got image: float32 1 x 2 x 8 x 8, wanted image: float32 1 x 3 x 8 x 8"),
        (PICTURE, 1, "on CUDA device 1, wanted one on 0"),
    ],
)
def test_another_tensor_is_refused_in_one_line(values, number, wanted):
    simulated = library()
    with simulated_runner(simulated) as runner, pytest.raises(InputError) as refusal:
        runner(OnDevice(simulated.device, np.ascontiguousarray(values), number))
    assert wanted in str(refusal.value) and len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("binding", BINDINGS)
def test_device_times_are_those_of_this_threads_calls_since_it_last_asked(binding):
    with simulated_runner(library(), binding) as runner:
        assert isinstance(runner, DeviceTimer)
        assert runner.take_device_times() == DeviceTimes(0, 0)
        for _ in range(2):
            runner(PICTURE)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(runner.take_device_times).result() == DeviceTimes(0, 0)
        # As the simulation counts: 50 us for the engine, 2 us for each of the two copies.
        assert runner.take_device_times() == DeviceTimes(100_000, 8_000)
        assert runner.take_device_times() == DeviceTimes(0, 0)


def test_facts_name_the_device_and_what_reaches_it():
    with simulated_runner(library(version="10.13.3")) as runner:
        facts = dict(runner.facts)
    assert facts.pop("memory").startswith("cuda-bindings")
    assert facts == {
        "runtime": "trt",
        "version": "10.13.3",
        "device": "Simulated",
        "compute_capability": "8.7",
        "driver_cuda": "12.6",
        "cuda_graph": "yes",
    }


def test_the_real_rtx_without_a_device_is_one_line():
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    from edgevit.runtimes.device_memory import open_device_memory

    try:
        open_device_memory().close()
    except InputError:
        runner = TrtRunner(lambda: ENGINE, "tensorrt_rtx")
        assert "CUDA" in refusal_to_load(runner) or "cuda" in refusal_to_load(runner)
    else:
        pytest.skip("there is a device; tests/device run engines on it")


def test_whoever_speaks_half_of_dlpack_is_refused():
    with simulated_runner(library()) as runner, pytest.raises(InputError, match="wanted a numpy array"):
        runner(SimpleNamespace(__dlpack__=lambda: None))
