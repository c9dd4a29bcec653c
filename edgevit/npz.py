"""Arrays by name in an .npz that is the same bytes for the same arrays, read back without ever unpickling.

numpy's own reader allocates what a header claims before it looks at the data, and inflates what the archive claims;
this one takes only what `pack_arrays` writes, where no claim can exceed the bytes that are there.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping

import numpy as np

from edgevit.errors import InputError

__all__ = ["pack_arrays", "unpack_arrays"]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip archive can state
_KINDS = "biuf"


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The arrays as an uncompressed .npz, sorted by name and without dates.

    Raises:
        ValueError: an array holds something other than booleans, integers or floats.
    """
    archive_bytes = io.BytesIO()
    with zipfile.ZipFile(archive_bytes, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name]).reshape(np.shape(arrays[name]))
            if array.dtype.kind not in _KINDS:
                raise ValueError(f"{name}: arrays of {array.dtype} cannot be packed")
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            entry.create_system = 3  # the zip's note of the writing system; fixed, as it is the only platform trace
            archive.writestr(entry, member.getvalue())
    return archive_bytes.getvalue()


def unpack_arrays(data: bytes, where: str) -> dict[str, np.ndarray]:
    """Read what `pack_arrays` wrote. The arrays are read-only.

    Args:
        data: the file.
        where: its path, for errors.

    Raises:
        InputError: anything else: not a zip, compressed or encrypted members, objects, a size that is not there.
    """
    try:
        return _unpack(data)
    # zipfile and numpy's header parser answer damaged bytes with whatever broke first: BadZipFile, KeyError,
    # struct.error, SyntaxError, NotImplementedError, UnicodeDecodeError and more.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where}: not a readable .npz of plain arrays ({reason}); export the bundle again") from error


def _unpack(data: bytes) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    budget = len(data)  # members that overlap in the archive could otherwise multiply its size in memory
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            name, dot, extension = entry.filename.rpartition(".")
            if not name or dot + extension != ".npy" or name in arrays:
                raise ValueError("a member is not an array, or repeated")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > budget:
                raise ValueError("a member is compressed, or larger than the file")
            budget -= entry.file_size
            arrays[name] = _array(archive.read(entry))
    return arrays


def _array(member: bytes) -> np.ndarray:
    file = io.BytesIO(member)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array is of another format version")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in _KINDS or fortran_order or min(shape, default=1) < 0:
        raise ValueError("an array is not of plain numbers in row-major order")
    values = memoryview(member)[file.tell() :]
    if len(values) != math.prod(shape) * dtype.itemsize:
        raise ValueError("an array's size is not what its header says")
    return np.frombuffer(values, dtype).reshape(shape)
