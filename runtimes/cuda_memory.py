"""Device memory through cuda-bindings, NVIDIA's own package for CUDA's runtime API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_uint8
from typing import Any

import numpy as np

from edgevit.engine_library import loading
from edgevit.errors import InputError
from edgevit.extras import installed_version

from .device_memory import CudaDevice, NotCaptured, cuda_version

__all__ = ["CudaMemory"]

_DEVICE = 0


class CudaMemory:
    """See `DeviceMemory`. The device's primary context is used, which torch and cupy share.

    Raises:
        MissingExtra: cuda-bindings is not installed.
        InputError: cuda-bindings does not load; there is no device, or its driver is older than the CUDA that
            cuda-bindings is of.
    """

    def __init__(self) -> None:
        with loading("cuda.bindings", "tensorrt", "cuda", "cuda.bindings.runtime"):
            from cuda.bindings import runtime
        self._cuda: Any = runtime
        self.library = f"cuda-bindings {installed_version('cuda-bindings') or ''}".rstrip()
        (devices,) = self._opened(runtime.cudaGetDeviceCount())
        if devices == 0:
            raise InputError("CUDA sees no device; run this on a machine with an NVIDIA GPU")
        (facts,) = self._opened(runtime.cudaGetDeviceProperties(_DEVICE))
        (driver,) = self._opened(runtime.cudaDriverGetVersion())
        name = facts.name.decode() if isinstance(facts.name, bytes) else str(facts.name)
        self.device = CudaDevice(name.partition("\0")[0], f"{facts.major}.{facts.minor}", cuda_version(driver))
        (before,) = self._opened(runtime.cudaGetDevice())
        self._opened(runtime.cudaSetDevice(_DEVICE))
        try:
            (self._stream,) = self._opened(runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking))
        finally:
            runtime.cudaSetDevice(before)
        self.stream = int(self._stream)
        self._releases: list[Callable[[], object]] = [lambda: runtime.cudaStreamDestroy(self._stream)]

    @contextmanager
    def current(self) -> Iterator[None]:
        (before,) = self._do(self._cuda.cudaGetDevice())
        self._do(self._cuda.cudaSetDevice(_DEVICE))  # even if it is: a new thread has no context before
        try:
            yield
        finally:  # torch and the caller's own kernels go by the thread's device too
            if before != _DEVICE:
                self._cuda.cudaSetDevice(before)

    def allocate(self, size_bytes: int) -> int:
        (address,) = self._do(self._cuda.cudaMalloc(size_bytes))
        self._releases.append(lambda: self._cuda.cudaFree(address))
        return int(address)

    def pinned(self, size_bytes: int) -> np.ndarray:
        (address,) = self._do(self._cuda.cudaMallocHost(size_bytes))
        self._releases.append(lambda: self._cuda.cudaFreeHost(address))
        return np.ctypeslib.as_array((c_uint8 * size_bytes).from_address(int(address)))

    def upload(self, address: int, source: np.ndarray) -> None:
        self._copy(address, source.ctypes.data, source.nbytes)

    def download(self, target: np.ndarray, address: int) -> None:
        self._copy(target.ctypes.data, address, target.nbytes)

    def move(self, target: int, source: int, size_bytes: int) -> None:
        self._copy(target, source, size_bytes)

    def event(self) -> Any:
        (event,) = self._do(self._cuda.cudaEventCreate())
        self._releases.append(lambda: self._cuda.cudaEventDestroy(event))
        return event

    def record(self, event: Any) -> None:
        self._do(self._cuda.cudaEventRecord(event, self._stream))

    def elapsed_ns(self, start: Any, end: Any) -> int:
        (milliseconds,) = self._do(self._cuda.cudaEventElapsedTime(start, end))
        return round(1e6 * float(milliseconds))

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        cuda = self._cuda
        # Of this thread alone: another one that allocates meanwhile, as torch may, spoils nothing.
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._do(cuda.cudaStreamBeginCapture(self._stream, mode))
        try:
            work()
        except BaseException as error:
            status, *half = cuda.cudaStreamEndCapture(self._stream)  # it is the first error that counts
            if status == cuda.cudaError_t.cudaSuccess:
                cuda.cudaGraphDestroy(half[0])
            if isinstance(error, InputError):
                raise NotCaptured(str(error)) from error
            raise
        try:
            (graph,) = self._do(cuda.cudaStreamEndCapture(self._stream))
            try:
                (launchable,) = self._do(cuda.cudaGraphInstantiate(graph, 0))
            finally:
                cuda.cudaGraphDestroy(graph)
        except InputError as error:
            raise NotCaptured(str(error)) from error
        self._releases.append(lambda: cuda.cudaGraphExecDestroy(launchable))

        def launch() -> None:
            self._do(cuda.cudaGraphLaunch(launchable, self._stream))

        return launch

    def synchronize(self) -> None:
        self._do(self._cuda.cudaStreamSynchronize(self._stream))

    def close(self) -> None:
        if not self._releases:
            return
        status, before = self._cuda.cudaGetDevice()
        self._cuda.cudaSetDevice(_DEVICE)
        self._cuda.cudaStreamSynchronize(self._stream)
        while self._releases:
            self._releases.pop()()  # what fails to be freed is freed with the process
        if status == self._cuda.cudaError_t.cudaSuccess:
            self._cuda.cudaSetDevice(before)

    def _copy(self, target: int, source: int, size_bytes: int) -> None:
        # Default: the driver tells from the addresses which way it goes.
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDefault
        self._do(self._cuda.cudaMemcpyAsync(target, source, size_bytes, kind, self._stream))

    def _do(self, answer: tuple[Any, ...]) -> tuple[Any, ...]:
        """What a call of CUDA gave.

        Raises:
            InputError: it failed.
        """
        status, *values = answer
        if status != self._cuda.cudaError_t.cudaSuccess:
            raise InputError(f"CUDA failed: {self._text(status)}; try again, and if it stays run edgevit doctor")
        return tuple(values)

    def _opened(self, answer: tuple[Any, ...]) -> tuple[Any, ...]:
        """What a call gave while the device was being opened.

        Raises:
            InputError: it failed.
        """
        if answer[0] != self._cuda.cudaError_t.cudaSuccess:
            raise InputError(
                f"CUDA has no device that {self.library} can use: {self._text(answer[0])}; wanted an NVIDIA GPU whose "
                "driver is as new as that CUDA, or the cuda-bindings of the driver's own CUDA"
            )
        return answer[1:]

    def _text(self, status: Any) -> str:
        _, text = self._cuda.cudaGetErrorString(status)
        return text.decode() if isinstance(text, bytes) else str(text)
