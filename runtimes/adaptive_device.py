"""Stages whose state stays on the device: only the number of active tokens goes by way of the host."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Protocol

import numpy as np

from edgevit.bundle import ACTIVE, STATE
from edgevit.probes import DeviceTimer, DeviceTimes
from edgevit.runner import Runner

from .adaptive import AdaptiveRunner
from .device_arrays import DeviceArray

__all__ = ["AdaptiveDeviceRunner", "DeviceRunner"]

_RUNS_UNTIL_CAPTURED = 2  # of a tensor elsewhere a runner makes a graph when it comes again


class DeviceRunner(Runner, DeviceTimer, Protocol):
    """A runner that takes and gives tensors where they lie on its device, besides arrays of the host."""

    def run_split(
        self, image: np.ndarray | DeviceArray, to_host: Collection[str]
    ) -> tuple[dict[str, np.ndarray], dict[str, DeviceArray]]:
        """Run once: the outputs that are wanted on the host, and all where they lie until it is called again."""


class AdaptiveDeviceRunner(AdaptiveRunner[DeviceRunner]):
    """See `AdaptiveRunner`. Calls from several threads take turns, as there is one state.

    Entering runs every stage until its CUDA graph on the state's own address is made: no image waits for that.
    """

    def __init__(self, first: DeviceRunner, rests: Mapping[int, DeviceRunner], *, least: int = 0) -> None:
        super().__init__(first, rests, least=least)
        self._lock = threading.Lock()

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        self._require_entered()
        with self._lock:
            given, lying = self._first.run_split(image, [ACTIVE])
            rest = self._rests[self._budget(given[ACTIVE])]
            answer, _ = rest.run_split(lying[STATE], [output.name for output in rest.outputs])
            return answer

    def take_device_times(self) -> DeviceTimes:
        """See `edgevit.probes.DeviceTimer`: the sum over the stages."""
        self._require_entered()
        times = [stage.take_device_times() for stage in self._stages()]
        return DeviceTimes(sum(one.compute_ns for one in times), sum(one.transfer_ns for one in times))

    def _prepare(self) -> None:
        _, lying = self._first.run_split(np.zeros(self._first.input.shape, np.float32), [])
        for rest in self._rests.values():
            for _ in range(_RUNS_UNTIL_CAPTURED):
                rest.run_split(lying[STATE], [])
        for stage in self._stages():
            stage.take_device_times()
