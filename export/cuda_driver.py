"""What GPU this machine has, asked of the driver itself: no package is needed, and no context is made on the device.

Runs on Python 3.10, where a Jetson builds. Does not know: TensorRT, which of several GPUs is the best.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Device", "find_device"]

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
# CUdevice_attribute of cuda.h
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        name: `Orin`.
        compute_capability: `8.7`.
        driver: the newest CUDA its driver takes, `CUDA 12.6`.
    """

    name: str
    compute_capability: str
    driver: str


def find_device(load: Callable[[str], Any] = ctypes.CDLL) -> Device | None:
    """The GPU that a build would use, the first one that the process may see; None without one.

    Args:
        load: gives the driver's library by name, an OSError if there is none.
    """
    try:
        cuda = load(_LIBRARY)
    except OSError:
        return None
    device, number, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)

    def read(function: Any, *arguments: Any) -> int | None:
        return number.value if function(ctypes.byref(number), *arguments) == 0 else None

    if cuda.cuInit(0) != 0 or cuda.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    major = read(cuda.cuDeviceGetAttribute, _CAPABILITY_MAJOR, device)
    minor = read(cuda.cuDeviceGetAttribute, _CAPABILITY_MINOR, device)
    version = read(cuda.cuDriverGetVersion)
    if major is None or minor is None or version is None or cuda.cuDeviceGetName(name, 256, device) != 0:
        return None
    return Device(
        name.value.decode(errors="replace"), f"{major}.{minor}", f"CUDA {version // 1000}.{version % 1000 // 10}"
    )
