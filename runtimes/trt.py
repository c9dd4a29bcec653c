"""One engine on TensorRT or TensorRT-RTX: buffers made once, one stream, and its kernels launched as one CUDA graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.engine_fit import misfit
from edgevit.engine_library import load_library
from edgevit.engine_record import EngineRecord, Library, NoEngine
from edgevit.errors import InputError
from edgevit.probes import DeviceTimes
from edgevit.spec import TensorSpec

from ._contract import already_entered, check_image, not_entered
from .device_arrays import CUDA, CUDA_MANAGED, DeviceArray, borrowed, place_of
from .device_memory import DeviceMemory, open_device_memory
from .trt_binding import Binding
from .trt_engine import load_engine

if TYPE_CHECKING:
    from .device_memory import CudaDevice

__all__ = ["TrtRunner"]

_RUNTIMES: dict[Library, str] = {"tensorrt": "trt", "tensorrt_rtx": "trt-rtx"}


class TrtRunner:
    """An engine with one float32 input and static shapes, on the first CUDA device.

    Calling it with a numpy array copies the image to the device through pinned memory. Called with a tensor on the
    device that speaks DLPack (torch, cupy), it reads that where it lies. Answers come to the host, being small; with
    `run_on_device` they stay.

    Args:
        engine: gives the engine's bytes after checking their hash; called at each entry and never before the record
            was found to fit.
        library: the module that runs it.
        record: how the engine was built; None where nobody knows.
        again: what its user is to do about an engine that does not fit: the command that builds it anew.
        output_names: the order of the outputs; the engine's own by default.
        open_memory: opens the device.
        cuda_graphs: whether to capture the engine's kernels as a CUDA graph where that can be done.

    Raises:
        MissingExtra: the library is not installed. Entering raises it for the library of the device's memory.
        InputError: the library is installed and does not load. Entering: no device; an engine of another form.
        NoEngine: entering: an engine of another version or card, or one that does not load.
    """

    def __init__(
        self,
        engine: Callable[[], bytes],
        library: Library,
        *,
        record: EngineRecord | None = None,
        again: str = "build it again with edgevit build",
        output_names: Sequence[str] = (),
        open_memory: Callable[[], DeviceMemory] = open_device_memory,
        cuda_graphs: bool = True,
    ) -> None:
        self._library = load_library(library)
        self._engine = engine
        self._name = library
        self._record = record
        self._again = again
        self._output_names = tuple(output_names)
        self._open_memory = open_memory
        self._cuda_graphs = cuda_graphs
        self._bound: Binding | None = None
        self._lock = threading.Lock()  # one stream and one set of buffers: calls from several threads take turns
        self._times = threading.local()

    @property
    def input(self) -> TensorSpec:
        return self._require_bound().engine.input

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._require_bound().engine.outputs

    @property
    def facts(self) -> Mapping[str, str | int]:
        bound = self._require_bound()
        device: CudaDevice = bound.memory.device
        facts = {
            "runtime": _RUNTIMES[self._name],
            "version": str(self._library.__version__),
            "device": device.name,
            "compute_capability": device.compute_capability,
            "driver_cuda": device.driver_cuda,
            "memory": bound.memory.library,
            "cuda_graph": "yes" if bound.not_captured is None else f"no ({bound.not_captured})",
        }
        if bound.engine.validity is not None:
            facts["engine"] = bound.engine.validity
        if bound.engine.warnings is not None:
            facts["engine_warnings"] = bound.engine.warnings
        return facts

    def __enter__(self) -> TrtRunner:
        if self._bound is not None:
            raise already_entered(self)
        memory = self._open_memory()
        try:
            with memory.current():
                self._bound = self._bind(memory)
        except BaseException:
            memory.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            bound, self._bound = self._bound, None
            if bound is None:
                return
            memory = bound.memory
            try:
                with memory.current():
                    memory.synchronize()
                    del bound  # the engine's own memory goes first, while its device is still open
            finally:
                memory.close()

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """See `Runner`; besides numpy arrays it takes tensors of the same shape and type that speak DLPack.

        Raises:
            InputError: not loaded, an image that is none of this graph's, or the device failed.
        """
        with self._turn() as bound:
            names = [output.name for output in bound.engine.outputs]
            self._run(bound, image, names)
            return bound.answer(names)

    def run_on_device(self, image: object) -> dict[str, DeviceArray]:
        """Run the graph once and leave the outputs where they are.

        Args:
            image: as for a call.

        Returns:
            Each output by name, for `torch.from_dlpack` and its like. They are this runner's own buffers, valid until
            it is called again or left; everything is done when this returns, so that no stream has to wait.

        Raises:
            InputError: as a call.
        """
        return self.run_split(image, ())[1]

    def run_split(
        self, image: object, to_host: Collection[str]
    ) -> tuple[dict[str, np.ndarray], dict[str, DeviceArray]]:
        """Run the graph once, and bring just some of its outputs to the host.

        Args:
            image: as for a call.
            to_host: the names of these outputs.

        Returns:
            These outputs, which the caller owns, and all outputs where they are, as `run_on_device` gives them.

        Raises:
            InputError: as a call.
        """
        with self._turn() as bound:
            self._run(bound, image, to_host)
            return bound.answer(to_host), bound.answer_on_device()

    def take_device_times(self) -> DeviceTimes:
        """See `edgevit.probes.DeviceTimer`: by CUDA's events around each call's copies and kernels."""
        taken = getattr(self._times, "sum", DeviceTimes(0, 0))
        self._times.sum = DeviceTimes(0, 0)
        return taken

    def _bind(self, memory: DeviceMemory) -> Binding:
        library = self._library
        if self._record is not None:
            device = memory.device
            reason = misfit(self._record, library.__version__, device.compute_capability, device.name)
            if reason is not None:
                raise NoEngine(f"the engine {reason}; {self._again}")
        engine = load_engine(
            library,
            self._engine(),
            output_names=self._output_names,
            embeds_runtime=self._record is not None and self._record.version_compatible,
            again=self._again,
        )
        return Binding(engine, memory, graphs=self._cuda_graphs)

    @contextmanager
    def _turn(self) -> Iterator[Binding]:
        """The engine for one thread at a time."""
        with self._lock:
            bound = self._require_bound()
            with bound.memory.current():
                yield bound

    def _run(self, bound: Binding, image: object, to_host: Collection[str]) -> None:
        wanted = bound.engine.input
        place = None if isinstance(image, np.ndarray) else place_of(image)
        if place is not None and place[0] in (CUDA, CUDA_MANAGED):
            with borrowed(image, bound.memory.stream) as tensor:
                _check_tensor(tensor, wanted)
                times = bound.run(tensor, to_host=to_host)
        else:
            host: Any = image if place is None else _on_host(image)
            check_image(host, wanted)
            times = bound.run(host, to_host=to_host)
        before = getattr(self._times, "sum", DeviceTimes(0, 0))
        self._times.sum = DeviceTimes(before.compute_ns + times.compute_ns, before.transfer_ns + times.transfer_ns)

    def _require_bound(self) -> Binding:
        if self._bound is None:
            raise not_entered(self)
        return self._bound


def _on_host(tensor: object) -> np.ndarray:
    try:
        return np.from_dlpack(tensor)  # type: ignore[arg-type]  # it was asked for its methods
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        what = " ".join(str(error).split())
        raise InputError(
            f"got a {type(tensor).__name__} that cannot be shared ({what}); wanted a plain tensor"
        ) from error


def _check_tensor(tensor: DeviceArray, wanted: TensorSpec) -> None:
    got = TensorSpec(wanted.name, tensor.dtype, tensor.shape)
    if got != wanted:
        raise InputError(f"got {got}, wanted {wanted}; convert the tensor first")
    if tensor.device[1] != 0:
        raise InputError(f"got a tensor on CUDA device {tensor.device[1]}, wanted one on 0, where the engine is")
