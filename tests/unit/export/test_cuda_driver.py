"""The driver's library in a simulated form: its functions fill what is handed by reference and return a status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from edgevit.export.cuda_driver import Device, find_device

NO_DEVICE = 100


@dataclass
class Driver:
    """Of a machine with one Orin, unless a function fails."""

    failing: str = ""

    def _status(self, function: str) -> int:
        return NO_DEVICE if function == self.failing else 0

    def cuInit(self, flags: int) -> int:
        return self._status("cuInit")

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device._obj.value = 3
        return self._status("cuDeviceGet")

    def cuDeviceGetAttribute(self, number: Any, attribute: int, device: Any) -> int:
        assert device.value == 3
        number._obj.value = {75: 8, 76: 7}[attribute]
        return self._status("cuDeviceGetAttribute")

    def cuDriverGetVersion(self, number: Any) -> int:
        number._obj.value = 12060
        return self._status("cuDriverGetVersion")

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = b"Orin"
        assert size == len(name)
        return self._status("cuDeviceGetName")


def test_the_device_says_what_it_is() -> None:
    assert find_device(lambda name: Driver()) == Device("Orin", "8.7", "CUDA 12.6")


@pytest.mark.parametrize(
    "function", ["cuInit", "cuDeviceGet", "cuDeviceGetAttribute", "cuDriverGetVersion", "cuDeviceGetName"]
)
def test_a_driver_without_a_device_is_no_device(function: str) -> None:
    assert find_device(lambda name: Driver(failing=function)) is None


def test_a_machine_without_a_driver_has_no_device() -> None:
    def load(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    assert find_device(load) is None
