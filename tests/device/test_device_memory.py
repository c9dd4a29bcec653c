"""The methods of `DeviceMemory` on a device, through each library that is installed."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.errors import MissingExtra
from edgevit.runtimes.cuda_memory import CudaMemory
from edgevit.runtimes.device_memory import NotCaptured
from edgevit.runtimes.pycuda_memory import PycudaMemory

SIZE = 1 << 20


@pytest.fixture(params=[CudaMemory, PycudaMemory])
def memory(request, compute_capability):
    try:
        memory = request.param()
    except MissingExtra as missing:
        pytest.skip(str(missing))
    yield memory
    memory.close()


def test_it_says_what_the_device_is(memory, compute_capability):
    assert memory.device.compute_capability == compute_capability
    assert memory.device.name and memory.device.driver_cuda


def test_bytes_come_back_as_they_went_there(memory):
    with memory.current():
        there, beside = memory.allocate(SIZE), memory.allocate(SIZE)
        assert there % 256 == beside % 256 == 0
        source, target = memory.pinned(SIZE), memory.pinned(SIZE)
        source[:] = np.random.default_rng(1).integers(0, 256, SIZE, np.uint8)
        memory.upload(there, source)
        memory.move(beside, there, SIZE)
        memory.download(target, beside)
        memory.synchronize()
        np.testing.assert_array_equal(target, source)


def test_time_passes_between_events(memory):
    with memory.current():
        there, source = memory.allocate(SIZE), memory.pinned(SIZE)
        begun, done = memory.event(), memory.event()
        memory.record(begun)
        for _ in range(10):
            memory.upload(there, source)
        memory.record(done)
        memory.synchronize()
        assert memory.elapsed_ns(begun, done) > 0


def test_a_graph_repeats_what_was_captured(memory):
    with memory.current():
        there, source, target = memory.allocate(SIZE), memory.pinned(SIZE), memory.pinned(SIZE)
        target[:] = 0

        def work() -> None:
            memory.upload(there, source)
            memory.download(target, there)

        try:
            launch = memory.capture(work)
        except NotCaptured as reason:
            pytest.skip(str(reason))
        memory.synchronize()
        assert (target == 0).all()
        for value in (1, 2):
            source[:] = value
            launch()
            memory.synchronize()
            assert (target == value).all()


def test_the_device_is_free_again_after_closing(compute_capability):
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")

    def free_bytes() -> int:
        return int(runtime.cudaMemGetInfo()[1])

    warm = CudaMemory()
    warm.close()
    before = free_bytes()
    for _ in range(20):
        memory = CudaMemory()
        with memory.current():
            memory.allocate(64 * SIZE)
            memory.pinned(SIZE)
        memory.close()
    assert free_bytes() > before - 64 * SIZE
