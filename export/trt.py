"""From a graph to an engine, for TensorRT 10.3 to 11 and TensorRT-RTX by one path, with the module passed in.

Precision is a property of the graph: the network is strongly typed, no flag lowers anything, and TF32 is off, so that
fp32 is fp32. What one release lacks is looked for in the module, never in its version.

Runs on Python 3.10, where a Jetson builds, and needs no ONNX library. Does not know: bundles, targets, terminals.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgevit.engine_record import EnginePrecision, HardwareCompatibility
from edgevit.errors import CheckFailed, InputError
from edgevit.spec import Precision

from .engine_kernels import EngineKernels, kernels_of_inspector, kernels_of_log, require_kernels
from .network_types import network_types, require_types
from .parse_errors import parse_errors
from .trt_log import CapturedLog, library_logger
from .trt_progress import BuildMonitor, BuildProgress, library_monitor

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["BuiltEngine", "EngineSettings", "build_engine", "builds_ahead"]

_TICK_S = 0.1
_LEVELS: dict[HardwareCompatibility, str] = {
    "ampere+": "AMPERE_PLUS",
    "same-compute-capability": "SAME_COMPUTE_CAPABILITY",
}


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How an engine is built.

    Attributes:
        precision: what the graph is meant to compute in; it is read back and compared.
        workspace_bytes: the most scratch memory a kernel may use; the library's own choice if None.
        timing_cache: kernel timings of an earlier build on this device; empty to begin a cache, None for none.
        hardware_compatibility: which other devices may run the engine.
        version_compatible: whether newer versions of the library may run it; it then brings code along that a runtime
            has to allow.
        capabilities: compute capabilities to build for ahead of time, `8.6`; empty for the library's own choice.
    """

    precision: Precision = "fp32"
    workspace_bytes: int | None = None
    timing_cache: bytes | None = None
    hardware_compatibility: HardwareCompatibility = "none"
    version_compatible: bool = False
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuiltEngine:
    """An engine and what is known of it.

    Attributes:
        engine: serialized.
        precision: what it computes in.
        build_seconds: how long the build took, parsing aside.
        timing_cache: the settings' one with the timings of this build; None without one.
        notes: what somebody should be told, a line each.
    """

    engine: bytes
    precision: EnginePrecision
    build_seconds: float
    timing_cache: bytes | None
    notes: tuple[str, ...]


def builds_ahead(library: ModuleType) -> bool:
    """Whether the library builds ahead of time, for devices that are not there."""
    return library.__name__ == "tensorrt_rtx"


def build_engine(
    onnx: bytes,
    library: ModuleType,
    settings: EngineSettings,
    progress: Callable[[BuildProgress], bool] | None = None,
) -> BuiltEngine:
    """Build an engine from a graph.

    Args:
        onnx: the graph, whole, its types as it is to be computed.
        library: the module `tensorrt` or `tensorrt_rtx`.
        settings: of the build.
        progress: told ten times a second, in this thread, where the build is; returns whether to go on. An exception
            out of it, Ctrl-C among them, stops the build too.

    Raises:
        InputError: the library cannot read the graph, cannot build it, or has not what the settings ask for; or
            `progress` stopped the build.
        CheckFailed: the network or the engine computes in other types than the settings ask for.
    """
    name = f"{library.__name__} {library.__version__}"
    log = CapturedLog()
    logger = library_logger(library, log)
    builder: trt.Builder = library.Builder(logger)
    network = builder.create_network(_strongly_typed(library))
    _parse(onnx, library, network, logger, name)
    types = network_types(network, library)
    require_types(types, settings.precision)

    monitor = BuildMonitor(ahead=builds_ahead(library))
    config, notes = _configure(builder, library, settings, name)
    config.progress_monitor = library_monitor(library, monitor)
    start = time.monotonic()
    memory = _build(lambda: builder.build_serialized_network(network, config), monitor, progress)
    build_seconds = time.monotonic() - start
    if memory is None:
        reason = "it was cancelled" if monitor.cancelled else log.reason()
        raise InputError(f"{name} built no engine: {reason}")
    engine = bytes(memory)

    kernels = _kernels(engine, library, settings, log, logger, name)
    require_kernels(kernels, settings.precision)
    cache = config.get_timing_cache() if settings.timing_cache is not None else None
    return BuiltEngine(
        engine=engine,
        precision=EnginePrecision(
            requested=settings.precision,
            products=dict(types.products),
            layers=dict(types.layers),
            weight_bytes=dict(types.weight_bytes),
            attention=dict(types.attention),
            attention_fusable=types.attention_fusable,
            kernels=dict(kernels.shares),
            attention_fused=kernels.attention_fused,
        ),
        build_seconds=build_seconds,
        timing_cache=bytes(cache.serialize()) if cache is not None else None,
        notes=tuple(notes),
    )


def _strongly_typed(library: ModuleType) -> int:
    """The flags of a new network: TensorRT 10 has to be told, 11 and RTX know no other kind."""
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(onnx: bytes, library: ModuleType, network: trt.INetworkDefinition, logger: Any, name: str) -> None:
    parser: trt.OnnxParser = library.OnnxParser(network, logger)
    if parser.parse(onnx):
        return
    errors = parse_errors(parser)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    raise InputError(f"{name} cannot read the graph: {errors[0]}{more}; edgevit doctor BUNDLE --target NAME says more")


def _configure(
    builder: trt.Builder, library: ModuleType, settings: EngineSettings, name: str
) -> tuple[trt.IBuilderConfig, list[str]]:
    """The configuration of a build, and what to tell about it."""
    config = builder.create_builder_config()
    notes: list[str] = []
    config.clear_flag(library.BuilderFlag.TF32)
    config.profiling_verbosity = library.ProfilingVerbosity.DETAILED
    if settings.workspace_bytes is not None:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    if builds_ahead(library):
        _ahead_of_time(config, library, settings, name)
        return config, notes
    if settings.capabilities:
        raise InputError(f"{name} builds for the device it runs on; leave the compute capability out")
    if settings.hardware_compatibility != "none":
        level = getattr(library.HardwareCompatibilityLevel, _LEVELS[settings.hardware_compatibility], None)
        if level is None:
            raise InputError(f"{name} has no hardware compatibility {settings.hardware_compatibility}; use another")
        config.hardware_compatibility_level = level
    if settings.version_compatible:
        config.set_flag(library.BuilderFlag.VERSION_COMPATIBLE)
    if settings.timing_cache is not None:
        cache: Any = config.create_timing_cache(
            settings.timing_cache
        )  # None if it is damaged, which the stubs leave out
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            notes.append("the timing cache is of another device or version, or damaged: it was begun anew")
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    return config, notes


def _ahead_of_time(config: Any, library: ModuleType, settings: EngineSettings, name: str) -> None:
    """What only a library that builds for absent devices has; the type is newer than the stubs."""
    for given, option in (
        (settings.hardware_compatibility != "none", "hardware compatibility: name compute capabilities"),
        (settings.version_compatible, "version compatibility: build again for another version"),
        (settings.timing_cache is not None, "timing cache, since it times nothing: leave it out"),
    ):
        if given:
            raise InputError(f"{name} builds ahead of time and has no {option}")
    if not settings.capabilities:
        return
    known = {key[2:-1] + "." + key[-1]: value for key, value in library.ComputeCapability.__members__.items()
             if key.startswith("SM")}  # fmt: skip
    unknown = [capability for capability in settings.capabilities if capability not in known]
    if unknown:
        raise InputError(f"{name} builds for no compute capability {unknown[0]}; it knows {', '.join(known)}")
    config.num_compute_capabilities = len(settings.capabilities)
    for i, capability in enumerate(settings.capabilities):
        config.set_compute_capability(known[capability], i)


def _build(build: Callable[[], Any], monitor: BuildMonitor, progress: Callable[[BuildProgress], bool] | None) -> Any:
    """Run a build beside this thread, which stays awake for progress and for Ctrl-C; None if it failed."""
    outcome: list[Any] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(build())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="build", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            if progress is not None and not progress(monitor.now()):
                monitor.cancel()
            thread.join(_TICK_S)
    except BaseException:
        monitor.cancel()
        thread.join()
        raise
    if failures:
        raise failures[0]
    return outcome[0]


def _kernels(
    engine: bytes, library: ModuleType, settings: EngineSettings, log: CapturedLog, logger: Any, name: str
) -> EngineKernels:
    """The kernels of an engine just built: of the inspector where the device is at hand, else of the log."""
    if builds_ahead(library):
        return kernels_of_log(log.kernels)
    runtime: trt.Runtime = library.Runtime(logger)
    if settings.version_compatible:
        runtime.engine_host_code_allowed = True
    loaded: Any = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        raise CheckFailed(f"{name} cannot load the engine it built: {log.reason()}")
    inspector = loaded.create_engine_inspector()
    return kernels_of_inspector(inspector.get_engine_information(library.LayerInformationFormat.JSON))
