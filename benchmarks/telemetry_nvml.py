"""Reader for NVIDIA GPUs through NVML: clock, utilisation, memory, power, temperature, throttling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .telemetry import Reading

__all__ = ["NvmlGpus"]

# Clock event reasons that slow a GPU down: software and hardware power caps, hardware and software thermal slowdown,
# hardware slowdown, power brake. The idle and application-clock bits are no fault.
_SLOWED = 0x4 | 0x8 | 0x20 | 0x40 | 0x80


class NvmlGpus:
    """Every GPU that NVML lists. What one does not tell (an integrated one tells little) is left out.

    Args:
        library: the `pynvml` module; None imports it.
    """

    name = "nvml"

    def __init__(self, library: Any = None) -> None:
        self._library = library
        self._gpus: list[Any] = []

    def find(self) -> str | None:
        if self._library is None:
            try:
                import pynvml
            except ImportError:
                return "nvidia-ml-py is not installed; pip install 'edgevit[bench]' to read NVIDIA GPUs"
            self._library = pynvml
        try:
            self._library.nvmlInit()
            count = self._library.nvmlDeviceGetCount()
            self._gpus = [self._library.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        except self._library.NVMLError as error:
            return f"NVML finds no NVIDIA driver ({error})"
        return None if self._gpus else "NVML lists no GPU"

    def read(self) -> list[Reading]:
        readings: list[Reading] = []
        for index, gpu in enumerate(self._gpus):
            for name, unit, value in self._values(gpu):
                readings.append(Reading(f"{name} {index}", unit, value))
        return readings

    def _values(self, gpu: Any) -> list[tuple[str, str, float]]:
        nvml = self._library
        asked: list[tuple[str, str, Callable[[], float]]] = [
            ("gpu_clock", "MHz", lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
            ("gpu_busy", "share", lambda: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100),
            ("gpu_memory", "bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(gpu).used),
            ("gpu_power", "W", lambda: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
            ("temperature gpu", "°C", lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
            ("gpu_throttled", "devices", lambda: bool(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu) & _SLOWED)),
        ]
        values = []
        for name, unit, ask in asked:
            try:
                values.append((name, unit, float(ask())))
            except nvml.NVMLError:
                # Not supported by this GPU, or lost for now: a gap in the series.
                continue
        return values
