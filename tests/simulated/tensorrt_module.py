"""TensorRT and TensorRT-RTX as far as a runner calls them, computing on a simulated device.

What it is modelled on: the type stubs of TensorRT 10.13 and the interface of tensorrt_rtx 1.7.1 itself.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from cuda_device import SimulatedDevice

from edgevit.spec import TensorSpec

_TYPES = {"float32": "FLOAT", "float16": "HALF", "int32": "INT32", "int64": "INT64", "bfloat16": "BF16"}

Answer = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass
class SimulatedLibrary:
    """One of the two libraries, with the engine that it takes any bytes for, and others that it knows by theirs.

    Attributes:
        device: computes.
        tensors: inputs and outputs of the engine, `(is input, spec)`.
        answer: from the image to the outputs.
        name: `tensorrt` or `tensorrt_rtx`.
        version: of the library.
        complaint: when set, why it loads no engine.
        warning: when set, what it warns of while it loads one.
        breaks: when set, what its runtime throws in place of loading one, without a line in its log.
        invalid: when set, bits of what TensorRT-RTX says of the engine beforehand.
        suboptimal: whether TensorRT-RTX says so.
        capturable: whether its engine can become a CUDA graph.
        fails_running: whether the engine refuses to be enqueued.
        others: tensors and answer of other engines, by their bytes.
        loaded: the bytes of every engine that it was given.
        host_code_allowed: for each, whether host code was.
    """

    device: SimulatedDevice
    tensors: Sequence[tuple[bool, TensorSpec]]
    answer: Answer
    name: str = "tensorrt"
    version: str = "10.3.0"
    complaint: str = ""
    warning: str = ""
    breaks: str = ""
    invalid: int = 0
    suboptimal: bool = False
    capturable: bool = True
    fails_running: bool = False
    others: Mapping[bytes, tuple[Sequence[tuple[bool, TensorSpec]], Answer]] = field(default_factory=dict)
    loaded: list[bytes] = field(default_factory=list)
    host_code_allowed: list[bool] = field(default_factory=list)

    def module(self) -> ModuleType:
        library = self
        module: Any = ModuleType(self.name)
        module.__version__ = self.version

        class Severity(enum.Enum):
            INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

        class ILogger:
            def __init__(self) -> None:
                self.told = True

        ILogger.Severity = Severity  # type: ignore[attr-defined]

        class TensorIOMode(enum.Enum):
            NONE, INPUT, OUTPUT = range(3)

        DataType = enum.Enum("DataType", sorted(_TYPES.values()))  # type: ignore[misc]

        class Engine:
            def __init__(self, logger: Any, serialized: bytes) -> None:
                self.logger = logger
                self.tensors, self.answer = library.others.get(serialized, (library.tensors, library.answer))
                self.num_io_tensors = len(self.tensors)

            def create_execution_context(self) -> Context:
                return Context(self)

            def get_tensor_name(self, number: int) -> str:
                return self.tensors[number][1].name

            def _spec(self, name: str) -> tuple[bool, TensorSpec]:
                return next(entry for entry in self.tensors if entry[1].name == name)

            def get_tensor_shape(self, name: str) -> list[int]:
                return list(self._spec(name)[1].shape)

            def get_tensor_dtype(self, name: str) -> Any:
                return DataType[_TYPES[self._spec(name)[1].dtype]]

            def get_tensor_mode(self, name: str) -> TensorIOMode:
                return TensorIOMode.INPUT if self._spec(name)[0] else TensorIOMode.OUTPUT

        class Context:
            def __init__(self, engine: Engine) -> None:
                self.engine = engine
                self.addresses: dict[str, int] = {}

            def set_tensor_address(self, name: str, memory: int) -> bool:
                if memory % 256:
                    self.engine.logger.log(Severity.ERROR, f"{name}: address is not aligned to 256 bytes")
                    return False
                self.addresses[name] = memory
                return True

            def execute_async_v3(self, stream_handle: int) -> bool:
                if library.fails_running:
                    self.engine.logger.log(Severity.ERROR, "IExecutionContext::enqueueV3: an illegal\nmemory access")
                    return False
                # What a kernel reads is fixed when it is begun; when it reads it, when it runs.
                addresses = dict(self.addresses)
                library.device.begin(stream_handle, "execute", lambda: _compute(self.engine, addresses), 50_000)
                return True

        class Runtime:
            def __init__(self, logger: ILogger) -> None:
                assert logger.told, "the base class of the logger was not initialised"
                self.logger = logger
                self.engine_host_code_allowed = False

            def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
                library.loaded.append(serialized_engine)
                library.host_code_allowed.append(self.engine_host_code_allowed)
                if library.breaks:
                    raise RuntimeError(library.breaks)
                if library.warning:
                    self.logger.log(Severity.WARNING, library.warning)  # type: ignore[attr-defined]
                if library.complaint:
                    self.logger.log(Severity.ERROR, library.complaint)  # type: ignore[attr-defined]
                    self.logger.log(Severity.INFO, "not to be told")  # type: ignore[attr-defined]
                    return None
                return Engine(self.logger, serialized_engine)

        module.ILogger, module.TensorIOMode, module.DataType, module.Runtime = ILogger, TensorIOMode, DataType, Runtime
        if self.name == "tensorrt":
            module.init_libnvinfer_plugins = lambda logger, namespace: True
        else:
            self._add_rtx(module)
        if self.name != "tensorrt" or not self.capturable:
            Context.is_stream_capturable = lambda context, stream: library.capturable  # type: ignore[attr-defined]
        return module

    def _add_rtx(self, module: Any) -> None:
        class EngineValidity(enum.Enum):
            VALID, SUBOPTIMAL, INVALID = range(3)

        class EngineInvalidityDiagnostics(enum.IntEnum):
            VERSION_MISMATCH, UNSUPPORTED_CC, OLD_CUDA_DRIVER = 1, 2, 4

        def validity(runtime: object, buffer: bytes) -> tuple[EngineValidity, int]:
            if self.invalid:
                return EngineValidity.INVALID, self.invalid
            return (EngineValidity.SUBOPTIMAL if self.suboptimal else EngineValidity.VALID), 0

        module.EngineValidity, module.EngineInvalidityDiagnostics = EngineValidity, EngineInvalidityDiagnostics
        module.Runtime.get_engine_validity = validity


def _compute(engine: Any, addresses: dict[str, int]) -> None:
    """Read the image where it lies, and write the outputs where they belong."""
    arrays = {spec.name: _at(addresses[spec.name], spec) for _, spec in engine.tensors}
    image = next(arrays[spec.name] for is_input, spec in engine.tensors if is_input)
    for name, value in engine.answer(image.copy()).items():
        arrays[name][...] = value


def _at(address: int, spec: TensorSpec) -> np.ndarray:
    data = (ctypes.c_uint8 * spec.size_bytes).from_address(address)
    return np.frombuffer(data, spec.dtype).reshape(spec.shape)
