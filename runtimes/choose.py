"""The one place where the name of a runtime becomes a runner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edgevit.bundle import Bundle
from edgevit.engine_record import Library, extra_of
from edgevit.errors import InputError, MissingExtra
from edgevit.runner import Runner
from edgevit.targets import target_named

from .opening import Asked, null_runner, openvino_runner, ort_runner, trt_runner

__all__ = ["RUNTIMES", "Runtime", "open_runner"]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One way to run a bundle.

    Attributes:
        name: what `--runtime` takes.
        library: what it imports; None if it needs nothing.
        extra: the extra of the distribution that brings the library; None if none does.
        description: one line for `edgevit list runtimes`.
        open: from what is asked for to a runner that is not entered.
        provider: of ONNX Runtime, which its library must have been built with.
        takes_provider: whether another one can be asked for.
        remedy: how to install it.
    """

    name: str
    library: str | None
    extra: str | None
    description: str
    open: Callable[[Asked], Runner]
    provider: str | None = None
    takes_provider: bool = False
    remedy: str | None = None

    @property
    def installed(self) -> bool:
        """Whether what it imports is here; a device that it needs may still be missing."""
        if self.library is None:
            return True
        if not _can_import(self.library):
            return False
        if self.provider is None:
            return True
        from .ort import available_providers

        return self.provider in available_providers()


def _can_import(library: str) -> bool:
    spec = find_spec(library)
    return spec is not None and spec.origin is not None  # type stubs leave a folder of the name, which has no origin


def _on_ort(*providers: str) -> Callable[[Asked], Runner]:
    """ONNX Runtime on the provider that is asked for, or on these."""
    return lambda asked: ort_runner(asked, (asked.provider,) if asked.provider else providers)


def _of_engines(library: Library) -> Callable[[Asked], Runner]:
    def open_it(asked: Asked) -> Runner:
        if not _can_import(library):  # said first: without it nobody can build the engine here either
            raise MissingExtra(library, extra_of(library))
        return trt_runner(asked, library)

    return open_it


_ORT_GPU = "pip install onnxruntime-gpu in place of onnxruntime"

RUNTIMES: tuple[Runtime, ...] = (
    Runtime(
        name="ort",
        library="onnxruntime",
        extra="cpu",
        description="ONNX Runtime, on the CPU or a provider it was built with",
        open=_on_ort("CPUExecutionProvider"),
        takes_provider=True,
    ),
    Runtime(
        name="ort-cuda",
        library="onnxruntime",
        extra=None,
        description="ONNX Runtime on a GPU through CUDA",
        open=_on_ort("CUDAExecutionProvider"),
        provider="CUDAExecutionProvider",
        remedy=_ORT_GPU,
    ),
    Runtime(
        name="ort-trt",
        library="onnxruntime",
        extra=None,
        description="ONNX Runtime on a GPU through TensorRT, which it builds for at every start",
        open=_on_ort("TensorrtExecutionProvider", "CUDAExecutionProvider"),
        provider="TensorrtExecutionProvider",
        remedy=_ORT_GPU,
    ),
    Runtime(
        name="trt",
        library="tensorrt",
        extra=extra_of("tensorrt"),
        description="TensorRT, an engine that edgevit build made",
        open=_of_engines("tensorrt"),
    ),
    Runtime(
        name="trt-rtx",
        library="tensorrt_rtx",
        extra=extra_of("tensorrt_rtx"),
        description="TensorRT-RTX, an engine that edgevit build made",
        open=_of_engines("tensorrt_rtx"),
    ),
    Runtime(
        name="ov",
        library="openvino",
        extra="openvino",
        description="OpenVINO, on the CPU",
        open=openvino_runner,
    ),
    Runtime(
        name="null",
        library=None,
        extra=None,
        description="computes nothing and answers zeros: measures what stands around a runner",
        open=null_runner,
    ),
)


def open_runner(
    bundle: str | Path | Bundle,
    runtime: str = "auto",
    *,
    threads: int | None = None,
    provider: str | None = None,
    least: int = 0,
) -> Runner:
    """A runner for the graph of a bundle, or its stages, not entered yet; no byte of them is read before it is.

    Args:
        bundle: a bundle or its folder.
        runtime: a name out of `RUNTIMES`, or `auto`, the one that the bundle's target is for. It is that one or an
            error: what stands in for it is the business of `edgevit.load` alone, and no measurement's.
        threads: CPU threads within one operator; None leaves it to the runtime.
        provider: of ONNX Runtime, the execution provider that must run the whole graph; the CPU's by default.
        least: of a bundle in stages, tokens that its later steps have room for whatever the image: with all tokens,
            every image costs what the fullest does.

    Raises:
        InputError: no bundle or a damaged one; an unknown runtime, or none for the bundle's target; no engine of this
            bundle for a runtime that needs one; a provider that is not there; fewer than one thread; `least` for one
            graph, or for more tokens than there are.
        MissingExtra: the runtime's library is not installed.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    if least and opened.stages is None:
        raise InputError(f"{opened.path}: is one graph, so nobody chooses its budgets; wanted least 0, got {least}")
    taken = _runtime_for(opened, runtime)
    if provider is not None and not taken.takes_provider:
        has = "has its own" if taken.provider else "has none"
        raise InputError(
            f"got provider {provider} for runtime {taken.name}, which {has}; leave it out, or use runtime ort"
        )
    return taken.open(Asked(bundle=opened, threads=threads, provider=provider, least=least))


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
