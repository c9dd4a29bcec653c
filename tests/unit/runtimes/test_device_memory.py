"""Both libraries for device memory, on a simulated device: `DeviceMemory`, and what they say when there is none."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import numpy as np
import pytest
from cuda_device import SimulatedDevice, cuda_bindings, install_cuda_bindings, install_pycuda

from edgevit.errors import InputError, MissingExtra
from edgevit.runtimes.cuda_memory import CudaMemory
from edgevit.runtimes.device_memory import CudaDevice, DeviceMemory, NotCaptured, open_device_memory
from edgevit.runtimes.pycuda_memory import PycudaMemory

Opening = Callable[[], DeviceMemory]


@pytest.fixture
def device() -> SimulatedDevice:
    return SimulatedDevice()


@pytest.fixture(params=["cuda-bindings", "pycuda"])
def opening(request, monkeypatch, device) -> Opening:
    if request.param == "pycuda":
        install_pycuda(monkeypatch, device)
        return PycudaMemory
    install_cuda_bindings(monkeypatch, device)
    return CudaMemory


@pytest.fixture
def without(monkeypatch) -> Callable[..., None]:
    """Make libraries appear as not installed."""

    def hide(*names: str) -> None:
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    return hide


def test_it_says_what_the_device_is(opening):
    memory = opening()
    assert memory.device == CudaDevice("Simulated", "8.7", "12.6")
    assert memory.library.startswith(("cuda-bindings", "pycuda"))
    memory.close()


def test_bytes_come_back_as_they_went_there_and_not_before_they_are_waited_for(opening):
    memory = opening()
    with memory.current():
        there, beside = memory.allocate(1024), memory.allocate(1024)
        assert there % 256 == beside % 256 == 0
        source, target = memory.pinned(1000), memory.pinned(1000)
        assert source.dtype == np.uint8 and source.shape == (1000,)
        source[:] = np.arange(1000) % 251
        target[:] = 7
        memory.upload(there, source)
        memory.move(beside, there, 1000)
        memory.download(target, beside)
        assert (target == 7).all(), "the simulation is lazy, so that a missing wait is seen"
        memory.synchronize()
        np.testing.assert_array_equal(target, source)
    memory.close()


def test_time_is_between_events(opening):
    memory = opening()
    with memory.current():
        there, source = memory.allocate(256), memory.pinned(256)
        events = [memory.event() for _ in range(3)]
        memory.record(events[0])
        memory.upload(there, source)
        memory.record(events[1])
        memory.upload(there, source)
        memory.upload(there, source)
        memory.record(events[2])
        memory.synchronize()
        assert memory.elapsed_ns(events[0], events[1]) == 2000  # of each copy, as the simulation counts
        assert memory.elapsed_ns(events[1], events[2]) == 4000
    memory.close()


def test_closing_frees_everything_and_may_be_repeated(opening, device):
    memory = opening()
    with memory.current():
        memory.allocate(256)
        memory.pinned(256)
        memory.event()
    memory.close()
    assert device.live == {}
    memory.close()


def test_a_refusal_while_working_is_one_line(opening, device):
    memory = opening()
    device.refuse["device memory"] = "out of memory"
    with pytest.raises(InputError, match=r"^CUDA failed: out of memory; try again"), memory.current():
        memory.allocate(256)
    memory.close()


def test_no_device_is_one_line(opening, device):
    device.refuse["count devices"] = "CUDA driver version is insufficient for CUDA runtime version"
    with pytest.raises(InputError, match=r"CUDA has no device that .* can use: CUDA driver version is insufficient"):
        opening()
    assert device.live == {}


def test_a_driver_that_counts_no_device_is_one_line(monkeypatch, device):
    install_cuda_bindings(monkeypatch, device, devices=0)
    with pytest.raises(InputError, match="CUDA sees no device"):
        CudaMemory()


def test_a_graph_repeats_what_was_captured_and_capturing_does_nothing(monkeypatch, device):
    install_cuda_bindings(monkeypatch, device)
    memory = CudaMemory()
    with memory.current():
        there, source, target = memory.allocate(256), memory.pinned(256), memory.pinned(256)
        target[:] = 0

        def work() -> None:
            memory.upload(there, source)
            memory.download(target, there)

        launch = memory.capture(work)
        memory.synchronize()
        assert (target == 0).all()
        for value in (1, 2):
            source[:] = value
            launch()
            memory.synchronize()
            assert (target == value).all()
    memory.close()
    assert device.live == {}


def test_work_that_fails_while_captured_ends_the_capture(monkeypatch, device):
    install_cuda_bindings(monkeypatch, device)
    memory = CudaMemory()

    def refused() -> None:
        raise InputError("the engine failed")

    with memory.current():
        with pytest.raises(NotCaptured, match="the engine failed"):
            memory.capture(refused)
        with pytest.raises(ZeroDivisionError):
            memory.capture(lambda: void(1 / 0))
        assert not device.capturing()
        memory.synchronize()
    memory.close()
    assert device.live == {}


def void(value: object) -> None:
    """Nothing."""


def test_pycuda_cannot_capture_and_says_so(monkeypatch, device):
    install_pycuda(monkeypatch, device)
    memory = PycudaMemory()
    with memory.current(), pytest.raises(NotCaptured, match="pycuda has no capture"):
        memory.capture(lambda: None)
    memory.close()


@pytest.mark.parametrize("number", [0, 1])
def test_the_device_that_the_caller_works_on_stays_its_own(monkeypatch, device, number):
    install_cuda_bindings(monkeypatch, device)
    device.current = number
    memory = CudaMemory()
    assert device.current == number
    device.calls.clear()
    with memory.current():
        assert device.calls == ["set device 0"], "which gives a thread its context, whatever device it had"
        memory.allocate(16)
    assert device.current == number
    with pytest.raises(ZeroDivisionError), memory.current():
        raise ZeroDivisionError
    assert device.current == number
    memory.close()
    assert device.current == number and device.live == {}


@pytest.mark.parametrize("opening, library", [(CudaMemory, "cuda.bindings"), (PycudaMemory, "pycuda")])
def test_a_library_that_is_not_there_is_missing(without, opening, library):
    without(library)
    with pytest.raises(MissingExtra, match="pip install"):
        opening()


@pytest.mark.parametrize(
    "opening, module, name",
    [(CudaMemory, "cuda/bindings/runtime.py", "cuda.bindings"), (PycudaMemory, "pycuda/driver.py", "pycuda")],
)
@pytest.mark.parametrize("source", ["import a_module_that_is_not_there", "raise ImportError('libcuda.so.1')"])
def test_a_library_that_does_not_load_is_one_line(monkeypatch, tmp_path, opening, module, name, source):
    path = tmp_path / module
    path.parent.mkdir(parents=True)
    path.write_text(source)
    (path.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    stay_out = [found for found in sys.modules if found.partition(".")[0] in ("cuda", "pycuda")]
    for found in {"cuda", "cuda.bindings", "pycuda", *stay_out}:
        monkeypatch.setitem(sys.modules, found, None)  # so that what is there now comes back afterwards, and no other
        del sys.modules[found]
    with pytest.raises(
        InputError, match=rf"^{name} is installed and does not load \(.*; mend the installation$"
    ) as error:
        opening()
    assert not isinstance(error.value, MissingExtra)


def test_pycuda_stands_in_where_cuda_bindings_is_not_installed(monkeypatch, device, without):
    install_pycuda(monkeypatch, device)
    without("cuda.bindings")
    memory = open_device_memory()
    assert isinstance(memory, PycudaMemory)
    memory.close()
    without("pycuda")
    with pytest.raises(MissingExtra, match=r"cuda\.bindings is not installed"):
        open_device_memory()


def test_cuda_bindings_comes_first(monkeypatch, device):
    install_pycuda(monkeypatch, device)
    install_cuda_bindings(monkeypatch, device)
    memory = open_device_memory()
    assert isinstance(memory, CudaMemory)
    memory.close()


def test_the_simulation_has_the_calls_of_cuda_bindings_with_as_many_arguments(device):
    """Without a driver the real ones cannot be called, but they say what they take."""
    real = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    simulated = cuda_bindings(device)
    names = [name for name in vars(simulated) if re.match(r"cuda[A-Z]", name) and callable(getattr(simulated, name))]
    assert len(names) > 20
    for name in names:
        signature = (getattr(real, name).__doc__ or "").partition("\n")[0]
        taken = re.fullmatch(rf"{name}\((.*)\)", signature)
        assert taken, f"cuda-bindings describes no {name}: {signature!r}"
        wanted = len([part for part in taken[1].split(",") if part.strip()])
        assert wanted == ARGUMENTS[name], name
    assert set(ARGUMENTS) == set(names)
    assert real.cudaStreamNonBlocking == simulated.cudaStreamNonBlocking
    assert real.cudaMemcpyKind.cudaMemcpyDefault == simulated.cudaMemcpyKind.cudaMemcpyDefault
    assert real.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal == 1


# As `CudaMemory` passes them; the simulation would fail on any other number.
ARGUMENTS = {
    "cudaGetDeviceCount": 0, "cudaGetDevice": 0, "cudaSetDevice": 1, "cudaGetDeviceProperties": 1,
    "cudaDriverGetVersion": 0,
    "cudaStreamCreateWithFlags": 1, "cudaStreamDestroy": 1, "cudaStreamSynchronize": 1, "cudaMalloc": 1, "cudaFree": 1,
    "cudaMallocHost": 1, "cudaFreeHost": 1, "cudaMemcpyAsync": 5, "cudaEventCreate": 0, "cudaEventDestroy": 1,
    "cudaEventRecord": 2, "cudaEventElapsedTime": 2, "cudaStreamBeginCapture": 2, "cudaStreamEndCapture": 1,
    "cudaGraphInstantiate": 2, "cudaGraphLaunch": 2, "cudaGraphDestroy": 1, "cudaGraphExecDestroy": 1,
    "cudaGetErrorString": 1,
}  # fmt: skip
