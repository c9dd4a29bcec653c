"""A CUDA device made of the host's memory, under the interfaces of cuda-bindings and of pycuda.

Its stream is as lazy as CUDA allows: nothing that was begun happens before somebody waits for it, so that a copy that
is not waited for, or a buffer that is reused too early, gives a wrong answer here too. Freed memory is overwritten.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

Work = Callable[[], object]
_ALIGNMENT = 256


class Refused(Exception):
    """A call that CUDA would answer with an error."""


class SimulatedDevice:
    """One device, one clock that moves with the work.

    `current` is the number of the device that the thread has set, under cuda-bindings, which makes things on no other;
    `live` names everything that was made and not yet freed; `refuse` names calls that shall fail, by their first words.
    """

    def __init__(self, capability: tuple[int, int] = (8, 7), driver: int = 12060) -> None:
        self.capability, self.driver = capability, driver
        self.current = 0
        self.live: dict[int, str] = {}
        self.refuse: dict[str, str] = {}
        self.calls: list[str] = []
        self._blocks: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self._pending: dict[int, list[Work]] = {}
        self._captured: dict[int, list[Work]] = {}
        self._now_ns = 0
        self._next = 1000

    def make(self, kind: str) -> int:
        """A handle of something new."""
        assert self.current == 0, f"made a {kind} on another device"
        self.called(kind)
        self._next += 1
        self.live[self._next] = kind
        if kind == "stream":
            self._pending[self._next] = []
        return self._next

    def drop(self, handle: int, kind: str) -> None:
        assert self.live.get(int(handle)) == kind, f"freed a {kind} that is none: {handle}"
        del self.live[int(handle)]

    def allocate(self, size: int, kind: str) -> int:
        assert self.current == 0, f"made {kind} on another device"
        self.called(kind)
        block = ctypes.create_string_buffer(b"\xa5" * (size + _ALIGNMENT), size + _ALIGNMENT)
        address = -(-ctypes.addressof(block) // _ALIGNMENT) * _ALIGNMENT
        self._blocks[address] = block
        self.live[address] = kind
        return address

    def release(self, address: int, kind: str) -> None:
        self.drop(address, kind)
        ctypes.memset(self._blocks[int(address)], 0xEE, len(self._blocks[int(address)]))

    def begin(self, stream: int, name: str, work: Work, cost_ns: int = 1000) -> None:
        """Put work on a stream, or into the graph that is being captured there."""
        self.called(name)

        def timed() -> None:
            self._now_ns += cost_ns
            work()

        self._captured.get(int(stream), self._pending[int(stream)]).append(timed)

    def copy(self, stream: int, target: int, source: int, size: int) -> None:
        self.begin(stream, "copy", lambda: ctypes.memmove(target, source, size), 2000)

    def wait(self, stream: int) -> None:
        self.called("synchronize")
        if int(stream) in self._captured:
            raise Refused("operation not permitted when stream is capturing")
        pending = self._pending[int(stream)]
        while pending:
            pending.pop(0)()

    def begin_capture(self, stream: int) -> None:
        self.called("begin capture")
        self._captured[int(stream)] = []

    def end_capture(self, stream: int) -> list[Work]:
        work = self._captured.pop(int(stream))
        self.called("end capture")
        return work

    def now_ns(self) -> int:
        return self._now_ns

    def called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.refuse:
            raise Refused(self.refuse[name])

    def set_current(self, number: int) -> None:
        self.called(f"set device {number}")
        self.current = number

    def capturing(self) -> bool:
        return bool(self._captured)


def cuda_bindings(device: SimulatedDevice, devices: int = 1) -> ModuleType:
    """`cuda.bindings.runtime`: every call answers with a status and its values, and raises nothing."""
    module = ModuleType("cuda.bindings.runtime")
    success, failure = "cudaSuccess", SimpleNamespace(text="")

    def offered(call: Callable[..., Any], name: str) -> None:
        def answered(*arguments: Any) -> tuple[Any, ...]:
            try:
                value = call(*arguments)
            except Refused as refusal:
                failure.text = str(refusal)
                return (failure, *[None] * (name in valued))
            return (success, value) if name in valued else (success,)

        setattr(module, name, answered)

    times: dict[int, int] = {}
    graphs: dict[int, list[Work]] = {}
    valued = {
        "cudaGetDeviceCount", "cudaGetDevice", "cudaGetDeviceProperties", "cudaDriverGetVersion",
        "cudaStreamCreateWithFlags", "cudaMalloc", "cudaMallocHost", "cudaEventCreate", "cudaEventElapsedTime",
        "cudaStreamEndCapture", "cudaGraphInstantiate",
    }  # fmt: skip

    def count() -> int:
        device.called("count devices")
        return devices

    def properties(number: int) -> SimpleNamespace:
        assert number == 0
        return SimpleNamespace(name=b"Simulated", major=device.capability[0], minor=device.capability[1])

    def record(event: int, stream: int) -> None:
        device.begin(stream, "record", lambda: times.__setitem__(event, device.now_ns()), 0)

    def elapsed(start: int, end: int) -> float:
        return (times[end] - times[start]) / 1e6

    def end_capture(stream: int) -> int:
        work = device.end_capture(stream)
        graph = device.make("graph")
        graphs[graph] = work
        return graph

    def instantiate(graph: int, flags: int) -> int:
        assert flags == 0
        launchable = device.make("launchable graph")
        graphs[launchable] = graphs[graph]
        return launchable

    def launch(launchable: int, stream: int) -> None:
        assert device.live[launchable] == "launchable graph"
        device.begin(stream, "launch graph", lambda: [work() for work in graphs[launchable]], 0)

    calls: dict[str, Callable[..., Any]] = {
        "cudaGetDeviceCount": count,
        "cudaGetDevice": lambda: device.current,
        "cudaSetDevice": device.set_current,
        "cudaGetDeviceProperties": properties,
        "cudaDriverGetVersion": lambda: device.driver,
        "cudaStreamCreateWithFlags": lambda flags: device.make("stream"),
        "cudaStreamDestroy": lambda stream: device.drop(stream, "stream"),
        "cudaStreamSynchronize": device.wait,
        "cudaMalloc": lambda size: device.allocate(size, "device memory"),
        "cudaFree": lambda address: device.release(address, "device memory"),
        "cudaMallocHost": lambda size: device.allocate(size, "pinned memory"),
        "cudaFreeHost": lambda address: device.release(address, "pinned memory"),
        "cudaMemcpyAsync": lambda target, source, size, kind, stream: device.copy(stream, target, source, size),
        "cudaEventCreate": lambda: device.make("event"),
        "cudaEventDestroy": lambda event: device.drop(event, "event"),
        "cudaEventRecord": record,
        "cudaEventElapsedTime": elapsed,
        "cudaStreamBeginCapture": lambda stream, mode: device.begin_capture(stream),
        "cudaStreamEndCapture": end_capture,
        "cudaGraphInstantiate": instantiate,
        "cudaGraphLaunch": launch,
        "cudaGraphDestroy": lambda graph: device.drop(graph, "graph"),
        "cudaGraphExecDestroy": lambda graph: device.drop(graph, "launchable graph"),
    }
    for name, call in calls.items():
        offered(call, name)
    module.cudaGetErrorString = lambda status: (success, status.text.encode())  # type: ignore[attr-defined]
    module.cudaError_t = SimpleNamespace(cudaSuccess=success)  # type: ignore[attr-defined]
    module.cudaStreamNonBlocking = 1  # type: ignore[attr-defined]
    module.cudaMemcpyKind = SimpleNamespace(cudaMemcpyDefault=4)  # type: ignore[attr-defined]
    module.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # type: ignore[attr-defined]
    return module


def pycuda_driver(device: SimulatedDevice) -> ModuleType:
    """`pycuda.driver`: objects and exceptions, and a stack of contexts without which nothing works."""
    module: Any = ModuleType("pycuda.driver")
    stack: list[object] = []

    class Error(Exception):
        pass

    def working(call: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*arguments: Any) -> Any:
            if not stack:
                raise Error("invalid device context")
            try:
                return call(*arguments)
            except Refused as refusal:
                raise Error(str(refusal)) from refusal

        return checked

    class Context:
        def push(self) -> None:
            stack.append(self)

        def detach(self) -> None:
            assert self not in stack
            device.calls.append("detach context")

        @staticmethod
        def pop() -> None:
            stack.pop()

    class Device:
        def __init__(self, number: int) -> None:
            assert number == 0

        def retain_primary_context(self) -> Context:
            return Context()

        def compute_capability(self) -> tuple[int, int]:
            return device.capability

        def name(self) -> str:
            return "Simulated"

    class Stream:
        @working
        def __init__(self) -> None:
            self.handle = device.make("stream")

        @working
        def synchronize(self) -> None:
            device.wait(self.handle)

        def __del__(self) -> None:
            device.drop(self.handle, "stream")

    class Event:
        @working
        def __init__(self) -> None:
            self._time = 0

        @working
        def record(self, stream: Stream) -> None:
            device.begin(stream.handle, "record", lambda: setattr(self, "_time", device.now_ns()), 0)

        @working
        def time_since(self, start: Event) -> float:
            return (self._time - start._time) / 1e6

    class Block:
        def __init__(self, address: int, size: int, kind: str) -> None:
            self._address, self._kind = address, kind
            # What numpy makes an array of, whose `base` is then this object.
            self.__array_interface__ = {"data": (address, False), "shape": (size,), "typestr": "|u1", "version": 3}

        def __int__(self) -> int:
            return self._address

        @working
        def free(self) -> None:
            device.release(self._address, self._kind)

    def block(size: int, kind: str) -> Block:
        return Block(device.allocate(size, kind), size, kind)

    def pagelocked(size: int, dtype: Any) -> np.ndarray:
        assert dtype is np.uint8
        return np.asarray(block(size, "pinned memory"))

    def init() -> None:
        try:
            device.called("count devices")
        except Refused as refusal:
            raise Error(str(refusal)) from refusal

    module.Error, module.Context, module.Device, module.Stream, module.Event = Error, Context, Device, Stream, Event
    module.init = init
    module.get_driver_version = lambda: device.driver
    module.mem_alloc = working(lambda size: block(size, "device memory"))
    module.pagelocked_empty = working(pagelocked)
    module.memcpy_htod_async = working(
        lambda target, source, stream: device.copy(stream.handle, target, source.ctypes.data, source.nbytes)
    )
    module.memcpy_dtoh_async = working(
        lambda target, source, stream: device.copy(stream.handle, target.ctypes.data, source, target.nbytes)
    )
    module.memcpy_dtod_async = working(
        lambda target, source, size, stream: device.copy(stream.handle, target, source, size)
    )
    return module


def install_cuda_bindings(monkeypatch: pytest.MonkeyPatch, device: SimulatedDevice, devices: int = 1) -> None:
    """Let `from cuda.bindings import runtime` give the simulation."""
    bindings = ModuleType("cuda.bindings")
    bindings.runtime = cuda_bindings(device, devices)  # type: ignore[attr-defined]
    for name, module in {"cuda": ModuleType("cuda"), "cuda.bindings": bindings}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", bindings.runtime)


def install_pycuda(monkeypatch: pytest.MonkeyPatch, device: SimulatedDevice) -> None:
    """Let `from pycuda import driver` give the simulation."""
    package = ModuleType("pycuda")
    package.driver = pycuda_driver(device)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", package.driver)
