"""Device memory through pycuda, for images of JetPack 6 that carry it in place of cuda-bindings.

Unverified: this has run against a simulation of pycuda's interface (of 2026.1), not yet on a device. pycuda wraps no
capture of streams, so that graphs are enqueued anew at each call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgevit.engine_library import loading
from edgevit.errors import InputError
from edgevit.extras import installed_version

from .device_memory import CudaDevice, NotCaptured, cuda_version

__all__ = ["PycudaMemory"]

_DEVICE = 0


class PycudaMemory:
    """See `DeviceMemory`. The device's primary context is used, which torch and TensorRT share.

    Raises:
        MissingExtra: pycuda is not installed.
        InputError: pycuda does not load; there is no device or no driver.
    """

    def __init__(self) -> None:
        with loading("pycuda", "tensorrt", "pycuda.driver"):
            from pycuda import driver
        self._cuda: Any = driver
        self.library = f"pycuda {installed_version('pycuda') or ''}".rstrip()
        self._releases: list[Callable[[], object]] = []
        try:
            driver.init()
            device = driver.Device(_DEVICE)
            self._context = device.retain_primary_context()
            major, minor = device.compute_capability()
            self.device = CudaDevice(device.name(), f"{major}.{minor}", cuda_version(driver.get_driver_version()))
        except driver.Error as error:
            raise InputError(
                f"CUDA has no device that {self.library} can use: {error}; wanted an NVIDIA GPU"
            ) from error
        with self.current():
            self._stream = driver.Stream()
        self.stream = int(self._stream.handle)

    @contextmanager
    def current(self) -> Iterator[None]:
        """pycuda's calls need the context on top of the thread's stack; what they raise becomes one line."""
        self._context.push()
        try:
            yield
        except self._cuda.Error as error:
            what = " ".join(str(error).split())
            raise InputError(f"CUDA failed: {what}; try again, and if it stays run edgevit doctor") from error
        finally:
            self._cuda.Context.pop()

    def allocate(self, size_bytes: int) -> int:
        block = self._cuda.mem_alloc(size_bytes)
        self._releases.append(block.free)
        return int(block)

    def pinned(self, size_bytes: int) -> np.ndarray:
        array: np.ndarray = self._cuda.pagelocked_empty(size_bytes, np.uint8)
        self._releases.append(array.base.free)  # type: ignore[union-attr]  # pycuda's own allocation
        return array

    def upload(self, address: int, source: np.ndarray) -> None:
        self._cuda.memcpy_htod_async(address, source, self._stream)

    def download(self, target: np.ndarray, address: int) -> None:
        self._cuda.memcpy_dtoh_async(target, address, self._stream)

    def move(self, target: int, source: int, size_bytes: int) -> None:
        self._cuda.memcpy_dtod_async(target, source, size_bytes, self._stream)

    def event(self) -> Any:
        return self._cuda.Event()

    def record(self, event: Any) -> None:
        event.record(self._stream)

    def elapsed_ns(self, start: Any, end: Any) -> int:
        return round(1e6 * float(end.time_since(start)))

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        raise NotCaptured("pycuda has no capture of streams")

    def synchronize(self) -> None:
        self._stream.synchronize()

    def close(self) -> None:
        context, self._context = self._context, None
        if context is None:
            return
        context.push()
        try:
            self._stream.synchronize()
            while self._releases:
                self._releases.pop()()
            del self._stream  # pycuda destroys it in the context it was made in
        finally:
            self._cuda.Context.pop()
            context.detach()
