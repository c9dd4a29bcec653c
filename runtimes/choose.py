"""The one place where the name of a runtime becomes a runner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from edgevit.bundle import GRAPH_NAME, Bundle
from edgevit.errors import InputError
from edgevit.runner import Runner
from edgevit.targets import target_named

from .null_runner import NullRunner
from .ort import OrtRunner

__all__ = ["RUNTIMES", "Runtime", "open_runner"]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One way to run a bundle.

    Attributes:
        name: what `--runtime` takes.
        library: what it imports; None if it needs nothing.
        extra: the extra of the distribution that brings the library.
        description: one line for `edgevit list runtimes`.
        open: bundle, threads and provider to a runner that is not entered.
    """

    name: str
    library: str | None
    extra: str | None
    description: str
    open: Callable[[Bundle, int | None, str | None], Runner]

    @property
    def installed(self) -> bool:
        return self.library is None or find_spec(self.library) is not None


def _open_ort(bundle: Bundle, threads: int | None, provider: str | None) -> Runner:
    read_checked = partial(bundle.read, GRAPH_NAME)
    return OrtRunner(read_checked, threads=threads, providers=(provider or "CPUExecutionProvider",))


def _open_null(bundle: Bundle, threads: int | None, provider: str | None) -> Runner:
    if provider is not None:
        raise InputError(f"got provider {provider} for runtime null, which has none; leave it out, or use runtime ort")
    return NullRunner(bundle.manifest.input, bundle.manifest.outputs)


RUNTIMES: tuple[Runtime, ...] = (
    Runtime(
        name="ort",
        library="onnxruntime",
        extra="cpu",
        description="ONNX Runtime, on the CPU or a provider it was built with",
        open=_open_ort,
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
        runtime: a name out of `RUNTIMES`, or `auto`, the one that the bundle's target is for.
        threads: CPU threads within one operator; None leaves it to the runtime.
        provider: of ONNX Runtime, the execution provider that must run the whole graph; the CPU's by default.

    Raises:
        InputError: no bundle or a damaged one; an unknown runtime, or none for the bundle's target; a provider that
            is not there; fewer than one thread.
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
        # Running it on the CPU instead would be the silent fallback that nobody on a device wants.
        raise InputError(
            f"{bundle.path}: is for target {bundle.manifest.target}, and this edgevit has no runtime {wanted}; "
            f"name one it has: {known}"
        )
    raise InputError(f"unknown runtime '{name}'; wanted auto or one of: {known}")
