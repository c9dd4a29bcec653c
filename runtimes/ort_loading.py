"""A bundle's graph on ONNX Runtime with its weights mapped, or in memory where that cannot be: one way or the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import InputError

from .ort_constants import with_constants
from .ort_mapped import Mapped, MappedWeights
from .ort_packed import packed_in
from .ort_session import CPU, library_build, new_session, save_packed

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["MAPPED", "load_mapped"]

MAPPED = "mapped from the folder beside the bundle"

_SMALLEST_BYTES = 2**20  # below it the files would be larger than what they save


def load_mapped(
    weights: MappedWeights,
    read_model: Callable[[], bytes],
    initializers: Mapping[str, np.ndarray],
    threads: int | None,
    profile_prefix: str | None = None,
) -> tuple[onnxruntime.InferenceSession, str]:
    """Load a graph on the CPU with its weights mapped, which are packed and written first if they are not there.

    Args:
        weights: where they are, or will be.
        read_model: the serialized graph, its hash checked; called once, and only if it is needed.
        initializers: other values for constants of the graph.
        threads: within one operator.
        profile_prefix: of the file that `end_profiling` writes.

    Returns:
        The session, and for reports how it has its weights: `MAPPED`, or in memory and why.

    Raises:
        InputError: the graph does not load either way.
    """
    found = weights.find(library_build())
    model: bytes | None = None
    reason = ""
    if found is None:
        model = read_model()
        found, reason = _made(weights, model, threads)
    if found is not None:
        try:
            graph = with_constants(found.graph, initializers)
            session = new_session(graph, [CPU], threads, weights_folder=found.folder, profile_prefix=profile_prefix)
        except InputError as error:
            reason = str(error)  # and if that was an initializer, loading without says it again
        else:
            return session, MAPPED
    graph = with_constants(read_model() if model is None else model, initializers)
    return new_session(graph, [CPU], threads, profile_prefix=profile_prefix), f"in memory: {reason}"


def _made(weights: MappedWeights, model: bytes, threads: int | None) -> tuple[Mapped | None, str]:
    """Pack and write the weights; None and why if that cannot be, or if the answer is not the same to the last bit."""
    if len(model) < _SMALLEST_BYTES:
        return None, "the graph is small"
    if not weights.writable:
        return None, "the folder beside the bundle cannot be written"
    try:
        with TemporaryDirectory(prefix="edgevit-") as folder:
            plain, graph, saved = save_packed(model, [CPU], threads, Path(folder))
        mapped = weights.store(library_build(), model, packed_in(graph, saved))
        checked = new_session(mapped.graph, [CPU], threads, weights_folder=mapped.folder)
    except (InputError, OSError) as error:
        weights.remove()
        return None, str(error)
    (input,) = plain.get_inputs()
    image = np.random.default_rng(0).standard_normal(input.shape, dtype=np.float32)
    answers = (session.run(None, {input.name: image}) for session in (plain, checked))
    if not all(map(np.array_equal, *answers)):
        weights.remove()
        return None, "mapped weights gave another answer"
    return mapped, ""
