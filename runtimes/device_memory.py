"""What a runner needs of a CUDA device, in a few methods: memory, one stream, events and captured graphs.

A protocol, because there are two libraries to it and neither is everywhere: NVIDIA's own cuda-bindings, and pycuda in
images of JetPack 6 that carry that instead. Each is a file beside this one. Resist adding to it: it is what one
static graph on one stream needs, and not a CUDA library.

Does not know: engines, tensors' names and shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edgevit.errors import MissingExtra

__all__ = ["CudaDevice", "DeviceMemory", "NotCaptured", "cuda_version", "open_device_memory"]


@dataclass(frozen=True)
class CudaDevice:
    """The device that is used: the first one, which `CUDA_VISIBLE_DEVICES` chooses.

    Attributes:
        name: `Orin`.
        compute_capability: `8.7`.
        driver_cuda: the newest CUDA that the driver runs, `12.6`.
    """

    name: str
    compute_capability: str
    driver_cuda: str


class NotCaptured(Exception):
    """Why work on the stream could not become a graph; the stream goes on as before."""


class DeviceMemory(Protocol):
    """An opened device with one stream. Constructing opens it; `close` frees whatever was made through it.

    Addresses are those of the device. Copies and events are ordered on the stream and only begun when a method
    returns; `synchronize` waits for them. Every method but `current` and `close` is called inside `current`, by one
    thread at a time, and raises `InputError` in one line for whatever CUDA refuses.
    """

    library: str  # with its version: `cuda-bindings 13.5.0`
    device: CudaDevice
    stream: int  # handle of the stream, as other libraries take it

    def current(self) -> AbstractContextManager[None]:
        """Make the device this thread's own, for the length of a `with`."""

    def allocate(self, size_bytes: int) -> int:
        """Address of so many bytes on the device, at a multiple of 256."""

    def pinned(self, size_bytes: int) -> np.ndarray:
        """So many bytes of the host that stay in place, so that the device copies them by itself: uint8, [n]."""

    def upload(self, address: int, source: np.ndarray) -> None:
        """Begin to copy a pinned array to the device."""

    def download(self, target: np.ndarray, address: int) -> None:
        """Begin to copy from the device into a pinned array."""

    def move(self, target: int, source: int, size_bytes: int) -> None:
        """Begin to copy within the device."""

    def event(self) -> Any:
        """An event that can be recorded again and again."""

    def record(self, event: Any) -> None:
        """Let the event happen once the stream has come this far."""

    def elapsed_ns(self, start: Any, end: Any) -> int:
        """Time between two events that have happened; CUDA resolves half a microsecond."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Make a graph of what `work` begins on the stream, without doing it; what is returned launches it.

        Raises:
            NotCaptured: it cannot be, and why.
        """

    def synchronize(self) -> None:
        """Wait until everything that was begun is done."""

    def close(self) -> None:
        """Free everything. Closing again does nothing."""


def cuda_version(number: int) -> str:
    """12060, as CUDA counts its versions, as `12.6`."""
    return f"{number // 1000}.{number % 1000 // 10}"


def open_device_memory() -> DeviceMemory:
    """The device through cuda-bindings, or where that is not installed through pycuda.

    Raises:
        MissingExtra: neither is installed.
        InputError: there is no device, or its driver does not suit the library.
    """
    from .cuda_memory import CudaMemory
    from .pycuda_memory import PycudaMemory

    try:
        return CudaMemory()
    except MissingExtra as missing:
        try:
            return PycudaMemory()
        except MissingExtra:
            raise missing from None  # the one that NVIDIA maintains
