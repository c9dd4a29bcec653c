"""One ONNX graph on OpenVINO, on the CPU, in just the precision that the graph says.

Seen of OpenVINO 2026.4 on a CPU with AMX: left alone it multiplies an fp32 graph in bf16 (logits off by 1.6e-2, where
1.3e-6 is reached in fp32) and says so nowhere. Of equal scores its TopK takes any. Both are set right here. Its `If` is
lazy: an adaptive graph costs what the branches cost that are taken.

No cache of compiled models: what OpenVINO exports of an adaptive graph holds a packed copy of the weights for each
branch (410 MB for 31 MB at DeiT-S width), which takes as long to read and hash as half of a compilation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import InputError, MissingExtra
from edgevit.spec import TensorSpec

from ._contract import already_entered, check_image, graph_bytes, not_entered

if TYPE_CHECKING:
    import openvino

__all__ = ["OpenVinoRunner"]

_DEVICE = "CPU"
_RESULT = "/sink_port_0"  # what OpenVINO appends to an ONNX output's name to name the node that returns it

# The types a graph may have at its borders, in OpenVINO's words and in numpy's.
_DTYPES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "i8": "int8",
    "boolean": "bool",
}

_SETTINGS: dict[str, str | int | bool] = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    "INFERENCE_PRECISION_HINT": "f32",  # of what the graph says in float; its int8 products stay int8
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # or activations may be quantized that the graph does not quantize
    # It pins the threads of a session to the first cores, whichever process holds them already: two sessions of one
    # thread each would share one core and leave the next one idle.
    "ENABLE_CPU_PINNING": False,
}


@dataclass(frozen=True)
class _Loaded:
    """What exists only between entering and leaving.

    Attributes:
        model: compiled.
        input: its one input.
        outputs: in graph order.
        idle: requests that no call is using; a call that finds none makes one more.
        device: the processor's name.
        threads: that OpenVINO settled on.
    """

    model: openvino.CompiledModel
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    device: str
    threads: int
    idle: list[openvino.InferRequest] = field(default_factory=list)


class OpenVinoRunner:
    """An ONNX graph with one float32 input and static shapes, on OpenVINO's CPU plugin.

    Args:
        model: the serialized graph; or its file; or a function that returns the bytes, called at each entry, so
            that nothing is read, and no bytes are kept, before the graph is loaded.
        threads: of one inference; None leaves it to OpenVINO, which takes the cores this process may use.

    Raises:
        MissingExtra: openvino is not installed.
        InputError: fewer than one thread. Entering raises it for a graph that does not load, and where OpenVINO would
            compute in another precision than the graph's.
    """

    def __init__(self, model: bytes | Path | Callable[[], bytes], *, threads: int | None = None) -> None:
        self._version: str = _imported().__version__.partition("-")[0]
        if threads is not None and threads < 1:
            raise InputError(f"got {threads} threads; wanted 1 or more, or None for OpenVINO's own choice")
        self._model = model
        self._threads = threads
        self._loaded: _Loaded | None = None

    @property
    def input(self) -> TensorSpec:
        return self._require_loaded().input

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._require_loaded().outputs

    @property
    def facts(self) -> Mapping[str, str | int]:
        loaded = self._require_loaded()
        return {
            "runtime": "ov",
            "version": self._version,
            "device": f"{_DEVICE}: {loaded.device}",
            "threads": loaded.threads,
            "inference_precision": "f32",
        }

    def __enter__(self) -> OpenVinoRunner:
        if self._loaded is not None:
            raise already_entered(self)
        core = _imported().Core()
        data = graph_bytes(self._model)
        settings = _SETTINGS if self._threads is None else {**_SETTINGS, "INFERENCE_NUM_THREADS": self._threads}
        try:
            model = core.read_model(data)
            _take_lowest_of_equals(model)
            inputs, outputs = [_spec(port) for port in model.inputs], [_spec(port) for port in model.outputs]
            compiled = core.compile_model(model, _DEVICE, settings)
            precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
            device = str(core.get_property(_DEVICE, "FULL_DEVICE_NAME")).strip()
            threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        except InputError:
            raise
        except Exception as error:  # OpenVINO raises RuntimeError, and what its bindings make of the rest
            raise InputError(f"openvino {self._version} cannot load the graph: {_one_line(error)}") from error
        if precision != "f32":
            raise InputError(f"asked openvino to compute in f32 and got {precision}; take runtime ort")
        if len(inputs) != 1:
            raise InputError(f"got a graph with {len(inputs)} inputs, wanted one: float32 B x 3 x H x W")
        if inputs[0].dtype != "float32":
            raise InputError(f"got a graph with input {inputs[0]}, wanted float32; export it again with edgevit")
        self._loaded = _Loaded(compiled, inputs[0], tuple(outputs), device, threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loaded = None

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        loaded = self._require_loaded()
        check_image(image, loaded.input)
        try:
            request = loaded.idle.pop()  # a list, since its pop and append are atomic
        except IndexError:
            request = loaded.model.create_infer_request()
        try:
            # Read in place, which saves a copy; what is returned are copies that nobody writes to again.
            answer = request.infer(image, share_inputs=True)
        except Exception as error:  # as above
            raise InputError(f"the graph failed while running: {_one_line(error)}") from error
        loaded.idle.append(request)
        return {output.name: value for output, value in zip(loaded.outputs, answer.values(), strict=True)}

    def _require_loaded(self) -> _Loaded:
        if self._loaded is None:
            raise not_entered(self)
        return self._loaded


def _imported() -> Any:
    try:
        import openvino
    except ModuleNotFoundError as error:
        if error.name != "openvino":
            raise  # it is installed, and something it needs itself is not
        raise MissingExtra("openvino", "openvino") from error
    return openvino


def _take_lowest_of_equals(model: Any) -> None:
    """Make each TopK of an `openvino.Model` take the lowest index of equal values, as ONNX says: left out on import.

    It sorts by another algorithm then: 50 us more for 64 of 256.
    """
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "TopK":
            node.set_attribute("stable", True)
        elif kind == "If":
            _take_lowest_of_equals(node.get_function(0))
            _take_lowest_of_equals(node.get_function(1))


def _spec(port: Any) -> TensorSpec:
    """The spec of one `openvino.Output` of a model that is not compiled.

    Raises:
        InputError: a dimension is symbolic, or the type is none that numpy has.
    """
    # A tensor may carry several names (an Identity is removed and leaves both); the node's is the ONNX output's.
    node = port.get_node().get_friendly_name().removesuffix(_RESULT)
    name = node if node in port.get_names() else port.get_any_name()
    kind = port.get_element_type().to_string()
    if kind not in _DTYPES:
        raise InputError(f"got a graph with {name}: {kind}; wanted one of: {', '.join(_DTYPES)}")
    shape = port.get_partial_shape()
    if not shape.is_static:
        raise InputError(f"got a graph with {name}: {shape}, wanted fixed sizes; export it again with edgevit")
    return TensorSpec(name, _DTYPES[kind], tuple(shape.to_shape()))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
