"""Messages between the harness and a candidate's process: a line of JSON, then arrays as they lie in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

import numpy as np


class Source(Protocol):
    """Where a message is read from."""

    def read_line(self) -> bytes: ...

    def read_exactly(self, size: int) -> bytes: ...


def encode(message: Mapping[str, object], arrays: Mapping[str, np.ndarray] | None = None) -> bytes:
    """One message: a header line that names the arrays with their dtypes and shapes, then their bytes."""
    arrays = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    described = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    header = json.dumps({"message": message, "arrays": described}).encode() + b"\n"
    return header + b"".join(array.tobytes() for array in arrays.values())


def decode(source: Source) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """Read the next message and its arrays, which are the caller's own.

    Raises:
        EOFError: the other end closed its pipe.
    """
    header = json.loads(source.read_line())
    arrays = {}
    for name, dtype_name, shape in header["arrays"]:
        dtype = np.dtype(dtype_name)
        content = source.read_exactly(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        arrays[name] = np.frombuffer(bytearray(content), dtype=dtype).reshape(shape)
    return header["message"], arrays
