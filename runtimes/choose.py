"""The one place where the name of a runtime becomes a runner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from edgevit.bundle import GRAPH_NAME, Bundle
from edgevit.engine_record import Library, build_command, extra_of, read_engine
from edgevit.errors import InputError, MissingExtra
from edgevit.runner import Runner
from edgevit.targets import target_named

from .null_runner import NullRunner
from .ort import OrtRunner, available_providers
from .ort_mapped import MappedWeights
from .ov import OpenVinoRunner
from .trt import TrtRunner

__all__ = ["RUNTIMES", "Runtime", "open_runner"]

_Open = Callable[[Bundle, int | None, str | None], Runner]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One way to run a bundle.

    Attributes:
        name: what `--runtime` takes.
        library: what it imports; None if it needs nothing.
        extra: the extra of the distribution that brings the library; None if none does.
        description: one line for `edgevit list runtimes`.
        open: bundle, threads and provider to a runner that is not entered.
        provider: of ONNX Runtime, which its library must have been built with.
        remedy: how to install it.
    """

    name: str
    library: str | None
    extra: str | None
    description: str
    open: _Open
    provider: str | None = None
    remedy: str | None = None

    @property
    def installed(self) -> bool:
        """Whether what it imports is here; a device that it needs may still be missing."""
        if self.library is None:
            return True
        return _can_import(self.library) and (self.provider is None or self.provider in available_providers())


def _can_import(library: str) -> bool:
    spec = find_spec(library)
    return spec is not None and spec.origin is not None  # type stubs leave a folder of the name, which has no origin


def _open_ort(bundle: Bundle, threads: int | None, provider: str | None) -> Runner:
    read_checked = partial(bundle.read, GRAPH_NAME)
    providers = (provider or "CPUExecutionProvider",)
    return OrtRunner(read_checked, threads=threads, providers=providers, weights=MappedWeights(bundle))


def _on_providers(name: str, *providers: str) -> _Open:
    """ONNX Runtime on providers that are fixed by the runtime's name."""

    def open_it(bundle: Bundle, threads: int | None, provider: str | None) -> Runner:
        if provider is not None:
            raise InputError(f"got provider {provider} for runtime {name}; leave it out, or use runtime ort")
        return OrtRunner(partial(bundle.read, GRAPH_NAME), threads=threads, providers=providers)

    return open_it


def _of_engines(name: str, library: Library) -> _Open:
    """The engine beside the bundle. A GPU's runtime has no threads to set."""

    def open_it(bundle: Bundle, threads: int | None, provider: str | None) -> Runner:
        if provider is not None:
            raise InputError(f"got provider {provider} for runtime {name}, which has none; leave it out")
        if not _can_import(library):  # said first: without it nobody can build the engine here either
            raise MissingExtra(library, extra_of(library))
        record, read_checked = read_engine(bundle, library)
        return TrtRunner(
            read_checked,
            library,
            record=record,
            again=f"run: {build_command(bundle, library)}",
            output_names=[output.name for output in bundle.manifest.outputs],
        )

    return open_it


def _open_ov(bundle: Bundle, threads: int | None, provider: str | None) -> Runner:
    if provider is not None:
        raise InputError(f"got provider {provider} for runtime ov, which has none; leave it out, or use runtime ort")
    return OpenVinoRunner(partial(bundle.read, GRAPH_NAME), threads=threads)


def _open_null(bundle: Bundle, threads: int | None, provider: str | None) -> Runner:
    if provider is not None:
        raise InputError(f"got provider {provider} for runtime null, which has none; leave it out, or use runtime ort")
    return NullRunner(bundle.manifest.input, bundle.manifest.outputs)


_ORT_GPU = "pip install onnxruntime-gpu in place of onnxruntime"

RUNTIMES: tuple[Runtime, ...] = (
    Runtime(
        name="ort",
        library="onnxruntime",
        extra="cpu",
        description="ONNX Runtime, on the CPU or a provider it was built with",
        open=_open_ort,
    ),
    Runtime(
        name="ort-cuda",
        library="onnxruntime",
        extra=None,
        description="ONNX Runtime on a GPU through CUDA",
        open=_on_providers("ort-cuda", "CUDAExecutionProvider"),
        provider="CUDAExecutionProvider",
        remedy=_ORT_GPU,
    ),
    Runtime(
        name="ort-trt",
        library="onnxruntime",
        extra=None,
        description="ONNX Runtime on a GPU through TensorRT, which it builds for at every start",
        open=_on_providers("ort-trt", "TensorrtExecutionProvider", "CUDAExecutionProvider"),
        provider="TensorrtExecutionProvider",
        remedy=_ORT_GPU,
    ),
    Runtime(
        name="trt",
        library="tensorrt",
        extra=extra_of("tensorrt"),
        description="TensorRT, an engine that edgevit build made",
        open=_of_engines("trt", "tensorrt"),
    ),
    Runtime(
        name="trt-rtx",
        library="tensorrt_rtx",
        extra=extra_of("tensorrt_rtx"),
        description="TensorRT-RTX, an engine that edgevit build made",
        open=_of_engines("trt-rtx", "tensorrt_rtx"),
    ),
    Runtime(
        name="ov",
        library="openvino",
        extra="openvino",
        description="OpenVINO, on the CPU",
        open=_open_ov,
    ),
    Runtime(
        name="null",
        library=None,
        extra=None,
        description="computes nothing and answers zeros: measures what stands around a runner",
        open=_open_null,
    ),
)


def open_runner(
    bundle: str | Path | Bundle, runtime: str = "auto", *, threads: int | None = None, provider: str | None = None
) -> Runner:
    """A runner for the graph of a bundle, not entered yet; no byte of the graph is read before it is.

    Args:
        bundle: a bundle or its folder.
        runtime: a name out of `RUNTIMES`, or `auto`, the one that the bundle's target is for. It is that one or an
            error: what stands in for it is the business of `edgevit.load` alone, and no measurement's.
        threads: CPU threads within one operator; None leaves it to the runtime.
        provider: of ONNX Runtime, the execution provider that must run the whole graph; the CPU's by default.

    Raises:
        InputError: no bundle or a damaged one; an unknown runtime, or none for the bundle's target; no engine of this
            bundle for a runtime that needs one; a provider that is not there; fewer than one thread.
        MissingExtra: the runtime's library is not installed.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    return _runtime_for(opened, runtime).open(opened, threads, provider)


def _runtime_for(bundle: Bundle, name: str) -> Runtime:
    wanted = target_named(bundle.manifest.target).runtime if name == "auto" else name
    for runtime in RUNTIMES:
        if runtime.name == wanted:
            return runtime
    known = ", ".join(runtime.name for runtime in RUNTIMES)
    if name == "auto":
        raise InputError(
            f"{bundle.path}: is for target {bundle.manifest.target}, and this edgevit has no runtime {wanted}; "
            f"name one it has: {known}"
        )
    raise InputError(f"unknown runtime '{name}'; wanted auto or one of: {known}")
