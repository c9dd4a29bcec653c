"""One ONNX graph on ONNX Runtime, on exactly the execution providers that were asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import InputError
from edgevit.probes import LayerTime
from edgevit.spec import TensorSpec

from ._contract import already_entered, check_image, graph_bytes, not_entered
from .ort_constants import with_constants
from .ort_loading import load_mapped
from .ort_mapped import MappedWeights
from .ort_profile import layer_times
from .ort_session import CPU, imported, new_session, one_line

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["OrtRunner", "available_providers"]

# The types a graph may have at its borders, in ONNX Runtime's words and in numpy's.
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class _Loaded:
    """What exists only between entering and leaving."""

    session: onnxruntime.InferenceSession
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    output_names: list[str]
    has_weights: str


def available_providers() -> tuple[str, ...]:
    """The execution providers that the installed onnxruntime was built with.

    Raises:
        MissingExtra: it is not installed.
    """
    return tuple(imported().get_available_providers())


class OrtRunner:
    """An ONNX graph with one float32 input and static shapes, on ONNX Runtime.

    Args:
        model: the serialized graph; or its file; or a function that returns the bytes, called at each entry, so
            that nothing is read, and no bytes are kept, before the graph is loaded.
        providers: ONNX Runtime's names of the execution providers, in order of precedence. Without
            `CPUExecutionProvider` among them no node may run on the CPU.
        threads: threads within one operator; None leaves it to ONNX Runtime, which takes the physical cores.
        initializers: other values for constants of the graph, by name; each of the type and shape of the stored one.
        weights: where the weights of this very graph are, packed, to be mapped, or will be after the first entry; of
            use to the CPU alone. By default they are packed in memory, a copy for each runner.
        takes_turns: whether other sessions of this process run right after it, as stages of one graph do; its threads
            rest between runs then. Not together with `weights`.

    Raises:
        MissingExtra: onnxruntime is not installed.
        InputError: a provider that this onnxruntime does not have, or fewer than one thread. Entering raises it
            for a graph that does not load, for a provider that would not take it, and for a constant that the graph
            does not have or has in another type or shape.
    """

    def __init__(
        self,
        model: bytes | Path | Callable[[], bytes],
        *,
        providers: Sequence[str] = (CPU,),
        threads: int | None = None,
        initializers: Mapping[str, np.ndarray] | None = None,
        weights: MappedWeights | None = None,
        takes_turns: bool = False,
    ) -> None:
        onnxruntime = imported()
        available = onnxruntime.get_available_providers()
        unknown = [provider for provider in providers if provider not in available]
        if unknown or not providers:
            got, wanted = ", ".join(unknown) or "no provider", ", ".join(available)
            raise InputError(f"got {got}; wanted providers of the installed onnxruntime: {wanted}")
        if threads is not None and threads < 1:
            raise InputError(f"got {threads} threads; wanted 1 or more, or None for onnxruntime's own choice")
        self._model = model
        assert weights is None or not takes_turns, "mapped weights are of one graph, and stages are several"
        self._providers = list(providers)
        self._threads = threads
        self._initializers = dict(initializers or {})
        self._weights = weights if self._providers == [CPU] else None
        self._takes_turns = takes_turns
        self._version: str = onnxruntime.__version__
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
        facts: dict[str, str | int] = {
            "runtime": "ort",
            "version": self._version,
            "provider": ", ".join(self._providers),
            "threads": self._threads or "auto",
        }
        if loaded.has_weights:
            facts["weights"] = loaded.has_weights
        if self._takes_turns:
            facts["between_runs"] = "threads rest"
        return facts

    def __enter__(self) -> OrtRunner:
        if self._loaded is not None:
            raise already_entered(self)
        session, has_weights = self._open()
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1:
            raise InputError(f"got a graph with {len(inputs)} inputs, wanted one: float32 B x 3 x H x W")
        input, *output_specs = [_spec(value) for value in (*inputs, *outputs)]
        if input.dtype != "float32":
            raise InputError(f"got a graph with input {input}, wanted float32; export it again with edgevit")
        names = [output.name for output in output_specs]
        self._loaded = _Loaded(session, input, tuple(output_specs), names, has_weights)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loaded = None

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        loaded = self._require_loaded()
        check_image(image, loaded.input)
        # Plain `run`, not IO binding: on the CPU it reads a contiguous array in place and hands out arrays of
        # its own, and binding each call was 2 to 10 % slower for a graph of 65 us, level for one of 15 ms.
        # On a GPU the image comes from the host and the answer goes back to it, so there is nothing to keep there.
        return dict(zip(loaded.output_names, _run(loaded.session, loaded, image), strict=True))

    def profile(self, batches: Sequence[np.ndarray]) -> list[LayerTime]:
        """See `edgevit.probes.LayerProfiler`: in a session of its own, so that the loaded one stays as fast as it is.

        Raises:
            InputError: not loaded, a batch is none of this graph's, or there is no room for the profile.
        """
        loaded = self._require_loaded()
        for batch in batches:
            check_image(batch, loaded.input)
        try:
            with TemporaryDirectory(prefix="edgevit-") as folder:
                prefix = str(Path(folder) / "profile")
                session, _ = self._open(prefix)
                for batch in batches:
                    _run(session, loaded, batch)
                return layer_times(json.loads(Path(session.end_profiling()).read_bytes()))
        except (OSError, ValueError) as error:  # ONNX Runtime says nothing of a profile that it could not write
            raise InputError(f"onnxruntime left no profile ({error}); make room for temporary files") from error

    def _require_loaded(self) -> _Loaded:
        if self._loaded is None:
            raise not_entered(self)
        return self._loaded

    def _open(self, profile_prefix: str | None = None) -> tuple[onnxruntime.InferenceSession, str]:
        """A session, and for reports how it has its weights; empty where no place for them was given."""

        def read() -> bytes:
            return graph_bytes(self._model)

        if self._weights is not None:
            return load_mapped(self._weights, read, self._initializers, self._threads, profile_prefix)
        model = with_constants(read(), self._initializers)
        session = new_session(
            model, self._providers, self._threads, profile_prefix=profile_prefix, takes_turns=self._takes_turns
        )
        return session, ""


def _run(session: onnxruntime.InferenceSession, loaded: _Loaded, image: np.ndarray) -> list[np.ndarray]:
    try:
        values: list[np.ndarray] = session.run(loaded.output_names, {loaded.input.name: image})
    except Exception as error:  # ONNX Runtime's errors share no base class but this
        raise InputError(f"the graph failed while running: {one_line(error)}") from error
    return values


def _spec(value: Any) -> TensorSpec:
    """The spec of one `onnxruntime.NodeArg`.

    Raises:
        InputError: a dimension is symbolic, or the type is none that numpy has.
    """
    if value.type not in _DTYPES:
        raise InputError(f"got a graph with {value.name}: {value.type}; wanted one of: {', '.join(_DTYPES)}")
    if not all(isinstance(size, int) for size in value.shape):
        shape = " x ".join(map(str, value.shape))
        raise InputError(f"got a graph with {value.name}: {shape}, wanted fixed sizes; export it again with edgevit")
    return TensorSpec(value.name, _DTYPES[value.type], tuple(value.shape))
