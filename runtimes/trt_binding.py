"""A loaded engine bound to memory: where its input and outputs lie, and how one call of it goes.

Does not know: threads, checks of what it is given, who asks for the time. One thread at a time, the device current.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from edgevit.errors import InputError
from edgevit.probes import DeviceTimes

from .device_arrays import DeviceArray
from .device_memory import DeviceMemory, NotCaptured
from .trt_engine import LoadedEngine

__all__ = ["Binding"]

_ALIGNMENT = 256  # bytes; TensorRT refuses addresses that are no multiple of it
_MOST_GRAPHS = 8  # one of the engine's own buffer, the others of inputs elsewhere, as in a ring of a camera's buffers
_MOST_SEEN = 64


class Binding:
    """Buffers on both sides, and the engine captured as a CUDA graph where it can be.

    All outputs lie in one block, so that one copy brings them to the host.

    Args:
        engine: just loaded.
        memory: the device; it owns every buffer.
        graphs: whether to capture.

    Attributes:
        engine: as given.
        memory: as given.
        not_captured: why there is no CUDA graph; None if there is.

    Raises:
        InputError: no memory is left, or the engine does not run.
    """

    def __init__(self, engine: LoadedEngine, memory: DeviceMemory, *, graphs: bool) -> None:
        self.engine = engine
        self.memory = memory
        self._image = memory.allocate(_rounded_up(engine.input.size_bytes))
        self._pinned_image = memory.pinned(engine.input.size_bytes)
        self._host_image = self._pinned_image.view(np.float32).reshape(engine.input.shape)
        self._offsets = [0]
        for output in engine.outputs:
            self._offsets.append(self._offsets[-1] + _rounded_up(output.size_bytes))
        self._block = memory.allocate(self._offsets[-1])
        self._host_block = memory.pinned(self._offsets[-1])
        for output, offset in zip(engine.outputs, self._offsets, strict=False):
            self._set_address(output.name, self._block + offset)
        self._events = [memory.event() for _ in range(4)]
        self._launches: dict[int, Callable[[], None]] = {}  # by the address of the input
        self._seen: set[int] = set()  # addresses elsewhere that came once
        self.not_captured: str | None = None if graphs else "turned off"
        # Once without a graph: engines make what they need lazily, which cannot be captured.
        memory.upload(self._image, self._zeroed())
        self._enqueue(self._image)
        memory.synchronize()
        if graphs:
            try:
                self._launches[self._image] = self._captured(self._image)
            except NotCaptured as reason:
                self.not_captured = str(reason)

    def run(self, image: np.ndarray | DeviceArray, *, to_host: Collection[str]) -> DeviceTimes:
        """Run the engine once and wait until it is done.

        Args:
            image: of the engine's input, dense.
            to_host: the outputs that `answer` will be asked for. All from the first to the last of them are copied.
        """
        begun, ready, computed, done = self._events
        memory = self.memory
        address = self._image
        if isinstance(image, np.ndarray):
            np.copyto(self._host_image, image)
            memory.record(begun)
            memory.upload(address, self._pinned_image)
        else:
            memory.record(begun)
            if image.address % _ALIGNMENT:
                memory.move(address, image.address, self.engine.input.size_bytes)
            else:
                address = image.address
        memory.record(ready)
        self._launch(address)
        memory.record(computed)
        places = [place for place, output in enumerate(self.engine.outputs) if output.name in to_host]
        if places:
            begin, end = self._offsets[places[0]], self._offsets[places[-1] + 1]
            memory.download(self._host_block[begin:end], self._block + begin)
        memory.record(done)
        memory.synchronize()
        transfer_ns = memory.elapsed_ns(begun, ready) + memory.elapsed_ns(computed, done)
        return DeviceTimes(memory.elapsed_ns(ready, computed), transfer_ns)

    def answer(self, names: Collection[str]) -> dict[str, np.ndarray]:
        """Outputs of the last run that were brought to the host, copied for the caller."""
        answer = {}
        for output, offset in zip(self.engine.outputs, self._offsets, strict=False):
            if output.name not in names:
                continue
            data = self._host_block[offset : offset + output.size_bytes]
            answer[output.name] = data.view(output.dtype).reshape(output.shape).copy()
        return answer

    def answer_on_device(self) -> dict[str, DeviceArray]:
        """The outputs of the last run, where they are."""
        return {
            output.name: DeviceArray(self._block + offset, output.shape, output.dtype)
            for output, offset in zip(self.engine.outputs, self._offsets, strict=False)
        }

    def _launch(self, address: int) -> None:
        """Begin the engine's work on the input at that address."""
        launch = self._launches.get(address)
        if launch is None and self.not_captured is None and len(self._launches) < _MOST_GRAPHS:
            if address in self._seen:
                # It came before and will come again. One that never does is not worth the milliseconds of a capture.
                launch = self._launches[address] = self._captured_or_not(address)
            elif len(self._seen) < _MOST_SEEN:
                self._seen.add(address)
        if launch is None:
            self._enqueue(address)
        else:
            launch()

    def _captured_or_not(self, address: int) -> Callable[[], None]:
        try:
            return self._captured(address)
        except NotCaptured:  # though one was, of the engine's own buffer: this one is enqueued each time
            return lambda: self._enqueue(address)

    def _captured(self, address: int) -> Callable[[], None]:
        context = self.engine.context
        if hasattr(context, "is_stream_capturable") and not context.is_stream_capturable(self.memory.stream):
            raise NotCaptured("the library says that the engine cannot be captured")
        return self.memory.capture(lambda: self._enqueue(address))

    def _enqueue(self, address: int) -> None:
        self._set_address(self.engine.input.name, address)
        if not self.engine.context.execute_async_v3(self.memory.stream):
            raise InputError(f"the engine failed while running: {self.engine.complaints()}; run edgevit doctor")

    def _set_address(self, name: str, address: int) -> None:
        if not self.engine.context.set_tensor_address(name, address):
            raise InputError(f"the engine does not take its {name} where it lies: {self.engine.complaints()}")

    def _zeroed(self) -> np.ndarray:
        self._pinned_image[:] = 0
        return self._pinned_image


def _rounded_up(size_bytes: int) -> int:
    return max(_ALIGNMENT, -(-size_bytes // _ALIGNMENT) * _ALIGNMENT)
