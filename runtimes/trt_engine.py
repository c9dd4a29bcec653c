"""From the bytes of an engine to one that can run: what is asked before, the loading, and what it takes and gives.

TensorRT and TensorRT-RTX have one interface as far as it is used here; where one of them has more, the module is asked
whether it has it, not which version it is.

Does not know: memory, streams, bundles. Whoever passes bytes has checked their hash: loading an engine runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgevit.engine_record import NoEngine
from edgevit.errors import InputError
from edgevit.spec import TensorSpec

if TYPE_CHECKING:
    import tensorrt

__all__ = ["LoadedEngine", "load_engine"]

# TensorRT's names of the types that numpy has too.
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class LoadedEngine:
    """An engine with its context, which together must be let go before the device is.

    Attributes:
        context: runs it. It keeps the engine alive, and that its runtime.
        input: the one input.
        outputs: in the order asked for.
        validity: what the library said of it: `valid`, `suboptimal`; None of a library that does not say.
        warnings: what the library warned of while it loaded the engine, as one line; None if it did not.
        complaints: takes what the library has complained of since it was last asked, as one line.
        runtime: which loaded it.
        engine: itself.
    """

    context: tensorrt.IExecutionContext
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    validity: str | None
    warnings: str | None
    complaints: Callable[[], str]
    runtime: tensorrt.Runtime
    engine: tensorrt.ICudaEngine


def load_engine(
    library: ModuleType, data: bytes, *, output_names: Sequence[str], embeds_runtime: bool, again: str
) -> LoadedEngine:
    """Load an engine on the current device.

    Args:
        library: `tensorrt` or `tensorrt_rtx`.
        data: the engine, whose hash was checked.
        output_names: the order that its outputs are wanted in; as the engine has them where it is empty.
        embeds_runtime: it was built to run on newer versions too, so that it carries code of the host.
        again: what to do about an engine that does not load.

    Raises:
        NoEngine: the library refuses it.
        InputError: the library fails, or it is none with one float32 input and static shapes.
    """
    log = _Log(library)
    validity = None
    try:
        if hasattr(library, "init_libnvinfer_plugins"):  # some operators of ONNX are plugins to it
            library.init_libnvinfer_plugins(log.logger, "")
        runtime: tensorrt.Runtime = library.Runtime(log.logger)
        if hasattr(runtime, "get_engine_validity"):
            validity = _validity(library, runtime, data, log, again)
        if embeds_runtime and hasattr(runtime, "engine_host_code_allowed"):
            runtime.engine_host_code_allowed = True
        engine = runtime.deserialize_cuda_engine(data)
        context = engine.create_execution_context() if engine is not None else None
    except (RuntimeError, TypeError) as error:  # TypeError: a constructor of theirs that came to nothing
        raise InputError(f"{library.__name__} failed: {log.take(_one_line(error))}; {again}") from error
    if context is None:
        raise NoEngine(f"{library.__name__} {library.__version__} cannot load the engine: {log.take()}; {again}")
    input, outputs = _ends(library, engine, again)
    if output_names:
        if sorted(output_names) != sorted(output.name for output in outputs):
            got, wanted = ", ".join(output.name for output in outputs), ", ".join(output_names)
            raise InputError(f"got an engine with outputs {got}, wanted {wanted}; {again}")
        outputs = sorted(outputs, key=lambda output: output_names.index(output.name))
    return LoadedEngine(context, input, tuple(outputs), validity, log.warned(), log.take, runtime, engine)


class _Log:
    """Keeps what a library complains of, which would otherwise go to the program's standard error.

    Its logger must outlive whatever was made with it, which `LoadedEngine.complaints` sees to.
    """

    def __init__(self, library: ModuleType) -> None:
        lines: list[str] = []
        warnings: list[str] = []
        heard = (library.ILogger.Severity.INTERNAL_ERROR, library.ILogger.Severity.ERROR)

        class Logger(library.ILogger):  # type: ignore[name-defined,misc]  # a class of a module that is a value
            def __init__(self) -> None:
                library.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                if severity in heard:
                    lines.append(" ".join(msg.split()))
                elif severity == library.ILogger.Severity.WARNING:
                    warnings.append(" ".join(msg.split()))

        self.logger = Logger()
        self._lines = lines
        self._warnings = warnings

    def take(self, otherwise: str = "") -> str:
        """The complaints since the last time, or what else is known where there are none."""
        taken = "; ".join(dict.fromkeys(self._lines))  # the same line often comes several times
        self._lines.clear()
        return taken or otherwise or "it does not say why"

    def warned(self) -> str | None:
        return "; ".join(dict.fromkeys(self._warnings)) or None


def _validity(library: ModuleType, runtime: Any, data: bytes, log: _Log, again: str) -> str:
    """What the library says of an engine that it has not loaded.

    Raises:
        NoEngine: that it cannot run here.
    """
    validity, bits = runtime.get_engine_validity(data)
    if validity == library.EngineValidity.INVALID:
        known = library.EngineInvalidityDiagnostics.__members__.items()
        reasons = [name.lower().replace("_", " ") for name, member in known if int(bits) & int(member)]
        raise NoEngine(
            f"{library.__name__} {library.__version__} says that the engine does not run here "
            f"({', '.join(reasons) or log.take()}); {again}"
        )
    return str(validity.name).lower()


def _ends(library: ModuleType, engine: tensorrt.ICudaEngine, again: str) -> tuple[TensorSpec, list[TensorSpec]]:
    """Input and outputs of an engine.

    Raises:
        InputError: they are not what a runner takes and gives.
    """
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for number in range(engine.num_io_tensors):
        name = engine.get_tensor_name(number)
        dtype, sizes = engine.get_tensor_dtype(name), engine.get_tensor_shape(name)
        shape = tuple(int(sizes[axis]) for axis in range(len(sizes)))
        if dtype.name not in _DTYPES:
            raise InputError(f"got an engine with {name}: {dtype.name}; wanted one of: {', '.join(_DTYPES)}; {again}")
        if min(shape, default=0) < 0:
            raise InputError(f"got an engine with {name}: {shape}, wanted fixed sizes; {again}")
        spec = TensorSpec(name, _DTYPES[dtype.name], shape)
        (inputs if engine.get_tensor_mode(name) == library.TensorIOMode.INPUT else outputs).append(spec)
    if len(inputs) != 1 or inputs[0].dtype != "float32":
        got = "; ".join(map(str, inputs)) or "none"
        raise InputError(f"got an engine with inputs {got}, wanted one: float32 B x 3 x H x W; {again}")
    return inputs[0], outputs


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
