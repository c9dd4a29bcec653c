"""What every runner refuses, worded once. The contract itself stands in `edgevit/runner.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgevit.errors import InputError
from edgevit.spec import TensorSpec

_FLOAT32 = np.dtype(np.float32)


def check_image(image: np.ndarray, wanted: TensorSpec) -> None:
    """Refuse anything but a C-contiguous float32 array of exactly `wanted.shape`.

    It stands on every prediction's path: the case that passes costs well under a microsecond.

    Raises:
        InputError: the array is not what the graph takes.
    """
    if (
        isinstance(image, np.ndarray)
        and image.shape == wanted.shape
        and image.dtype == _FLOAT32
        and image.flags.c_contiguous
    ):
        return
    if not isinstance(image, np.ndarray):
        raise InputError(f"got a {type(image).__name__}, wanted a numpy array for {wanted}")
    got = TensorSpec(wanted.name, str(image.dtype), image.shape)
    if got != wanted:
        raise InputError(f"got {got}, wanted {wanted}; convert the array first")
    raise InputError(f"got {got} that is not C-contiguous; pass it through np.ascontiguousarray first")


def not_entered(runner: object) -> InputError:
    """The error of a runner that was used outside its context."""
    return InputError(f"{type(runner).__name__} is not loaded; use it inside `with runner:`")


def already_entered(runner: object) -> InputError:
    """The error of a runner that was entered while it was loaded."""
    return InputError(f"{type(runner).__name__} is loaded already; leave its `with` before entering it again")


def graph_bytes(model: bytes | Path | Callable[[], bytes]) -> bytes:
    """A serialized graph: as it is, out of its file, or from whoever reads it when it is asked for.

    Raises:
        InputError: the file cannot be read.
    """
    if isinstance(model, bytes):
        return model
    if not isinstance(model, Path):
        return model()
    try:
        return model.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the graph {model}: {error.strerror}") from error
