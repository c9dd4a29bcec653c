"""All telemetry readers, as one readable list."""

from __future__ import annotations

from .telemetry import Reader
from .telemetry_jetson import JetsonGpu, JetsonRails
from .telemetry_jtop import Jtop
from .telemetry_linux import CpuClock, EnergyCounters, Load, Processes, Temperatures, Throttling
from .telemetry_nvml import NvmlGpus

__all__ = ["all_readers"]


def all_readers(pids: dict[str, int]) -> list[Reader]:
    """Every reader, each of which finds out for itself whether it has something to read here.

    Args:
        pids: process of each candidate, by name; filled while a measurement runs.
    """
    return [
        CpuClock(),
        Load(pids),
        Temperatures(),
        Throttling(),
        Processes(pids),
        EnergyCounters(),
        JetsonRails(),
        JetsonGpu(),
        NvmlGpus(),
        Jtop(),
    ]
