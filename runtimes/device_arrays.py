"""Tensors that other libraries hold on the device, and ours for them: DLPack by the letter of its C structures.

DLPack hands over an address, a shape and a type in a `DLManagedTensor`, inside a Python capsule (dmlc/dlpack 1.0,
`dlpack.h`; the Python half stands in the array API standard). torch, cupy and numpy speak it, so that none of them is
imported here.

Does not know: engines, streams' order. What is borrowed must be done with before it is given back.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_uint64, c_void_p
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from edgevit.errors import InputError

__all__ = ["CUDA", "CUDA_MANAGED", "DeviceArray", "borrowed", "place_of"]

CUDA, CUDA_MANAGED = 2, 13  # of the standard's DLDeviceType
_KINDS = {"i": 0, "u": 1, "f": 2, "b": 6}  # numpy's kinds as the standard's DLDataTypeCode; bfloat16 is none of numpy's
_FRESH = b"dltensor"  # a consumer renames it


class _Type(Structure):
    _fields_ = (("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16))


class _Tensor(Structure):
    _fields_ = (
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("type", _Type),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),  # in elements; null for C-contiguous
        ("byte_offset", c_uint64),
    )


_Deleter = CFUNCTYPE(None, c_void_p)


class _Managed(Structure):
    _fields_ = (("tensor", _Tensor), ("context", c_void_p), ("deleter", _Deleter))


_Destructor = CFUNCTYPE(None, c_void_p)
# The capsule is passed as a bare address: its destructor runs when nothing may refer to it any more.
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, c_void_p, c_char_p, _Destructor)(("PyCapsule_New", ctypes.pythonapi))
_pointer_in = ctypes.PYFUNCTYPE(c_void_p, ctypes.py_object, c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_pointer_at = ctypes.PYFUNCTYPE(c_void_p, c_void_p, c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_is_at = ctypes.PYFUNCTYPE(ctypes.c_int, c_void_p, c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))


@dataclass(frozen=True)
class DeviceArray:
    """Numbers on a device that another library may take without a copy: `torch.from_dlpack(array)`, `cupy.from_dlpack`.

    It owns nothing: it is valid until the runner that gave it is called again or left.

    Attributes:
        address: of its first element.
        shape: its sizes; the elements lie densely, the last dimension first.
        dtype: numpy's name of its type, `float32`.
        device: DLPack's type and number of the device, `(2, 0)` for the first CUDA device.
    """

    address: int
    shape: tuple[int, ...]
    dtype: str
    device: tuple[int, int] = (CUDA, 0)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: object = None, **newer: object) -> Any:
        """A capsule for one consumer. Everything on the device is done already, so that no stream has to wait."""
        dtype = np.dtype(self.dtype)
        shape = (c_int64 * len(self.shape))(*self.shape)
        kind = _Type(_KINDS[dtype.kind], 8 * dtype.itemsize, 1)
        tensor = _Tensor(self.address, *self.device, len(self.shape), kind, shape, None, 0)
        managed = _Managed(tensor, None, _delete)
        at = ctypes.addressof(managed)
        _lent[at] = (managed, shape, self)
        return _new_capsule(at, _FRESH, _abandon)


_lent: dict[int, tuple[object, ...]] = {}  # what consumers may still read, by the address they know it under


def _given_back(address: int) -> None:
    _lent.pop(address, None)


def _abandoned(capsule: int) -> None:
    """A capsule is gone; unless a consumer took what is in it, which it marks by another name, that goes too."""
    if _is_at(capsule, _FRESH):
        _lent.pop(_pointer_at(capsule, _FRESH), None)


_delete, _abandon = _Deleter(_given_back), _Destructor(_abandoned)


def place_of(tensor: object) -> tuple[int, int] | None:
    """DLPack's type and number of the device that a tensor is on; None for what does not speak DLPack.

    Raises:
        InputError: it cannot say.
    """
    if not (hasattr(tensor, "__dlpack__") and hasattr(tensor, "__dlpack_device__")):
        return None
    try:
        kind, number = tensor.__dlpack_device__()
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"got a {type(tensor).__name__} that cannot be shared ({_one_line(error)})") from error
    return int(kind), int(number)


@contextmanager
def borrowed(tensor: Any, stream: int) -> Iterator[DeviceArray]:
    """Look at a tensor where it lies, for the length of a `with`.

    Args:
        tensor: that speaks DLPack, on a device.
        stream: handle of the CUDA stream that will read it; its owner sees to it that the numbers are there by then.

    Raises:
        InputError: its owner does not share it (a torch tensor that records gradients), it has holes, or a type that
            numpy has not.
    """
    try:
        capsule = tensor.__dlpack__(stream=stream)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"got a {type(tensor).__name__} that cannot be shared ({_one_line(error)}); wanted a plain dense tensor"
        ) from error
    # Not renamed, which would make it ours: when the capsule goes, at the end of the `with`, its owner takes it back.
    seen = _Managed.from_address(_pointer_in(capsule, _FRESH)).tensor
    shape = tuple(seen.shape[: seen.ndim]) if seen.ndim else ()
    if seen.ndim and seen.strides and not _is_dense(shape, seen.strides[: seen.ndim]):
        raise InputError(f"got a {type(tensor).__name__} that is not C-contiguous; make it contiguous first")
    address = (seen.data or 0) + seen.byte_offset
    yield DeviceArray(address, shape, _numpy_name(seen.type), (seen.device_type, seen.device_id))
    del capsule


def _is_dense(shape: tuple[int, ...], strides: list[int]) -> bool:
    wanted = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != wanted:
            return prod(shape) == 0
        wanted *= size
    return True


def _numpy_name(kind: _Type) -> str:
    letters = {code: letter for letter, code in _KINDS.items()}
    try:
        return str(np.dtype("bool") if kind.code == 6 else np.dtype(f"{letters[kind.code]}{kind.bits // 8}"))
    except (KeyError, TypeError):
        raise InputError(f"got a tensor of DLPack's type {kind.code} of {kind.bits} bits; wanted float32") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
