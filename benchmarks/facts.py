"""What a number depends on beside the candidate: machine, kernel, clock governor, libraries."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path

from ._sysfs import text
from .telemetry_jetson import jetson_power_mode

__all__ = ["library_versions", "machine_facts"]

# Whatever of these is imported in a candidate's process takes part in its time.
_LIBRARIES = ("numpy", "onnxruntime", "torch", "openvino", "tensorrt", "tensorrt_rtx", "cuda", "onnx")


def library_versions() -> dict[str, str]:
    """Version of Python and of each imported library that can matter."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            versions[name] = str(version)
    return versions


def machine_facts(root: Path = Path("/")) -> dict[str, str | int | float]:
    """What describes the machine to a reader and tells two machines apart. What it does not tell is left out.

    Args:
        root: what `/` stands for; a recorded tree in tests.
    """
    facts: dict[str, str | int | float] = {
        "architecture": platform.machine(),
        "operating_system": platform.platform(),
        "cpus": os.cpu_count() or 0,
        "clock_resolution_ns": _clock_step_ns(),
    }
    readings: dict[str, str | int | None] = {
        "board": text(root / "proc/device-tree/model"),  # Jetson and other device-tree machines name themselves here
        "cpu": _cpu_model(root),
        "memory_bytes": _memory_bytes(root),
        "cpu_governor": text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "clock_source": text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "l4t": _first_line(root / "etc/nv_tegra_release"),
        "jetson_power_mode": jetson_power_mode(root),
    }
    facts.update({name: value for name, value in readings.items() if value is not None})
    return facts


def _clock_step_ns() -> int:
    """Smallest step seen between two readings of the clock: what its granularity and a reading's cost leave."""
    steps = []
    for _ in range(200):
        start = time.perf_counter_ns()
        end = time.perf_counter_ns()
        while end == start:
            end = time.perf_counter_ns()
        steps.append(end - start)
    return min(steps)


def _first_line(path: Path) -> str | None:
    content = text(path)
    return None if content is None else content.splitlines()[0]


def _cpu_model(root: Path) -> str | None:
    """Model name on x86; implementer and part numbers on Arm, which has no name."""
    content = text(root / "proc/cpuinfo") or ""
    fields: dict[str, str] = {}
    for line in content.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    if "model name" in fields:
        return fields["model name"]
    if "CPU part" in fields:
        return f"Arm implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"
    return None


def _memory_bytes(root: Path) -> int | None:
    for line in (text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None
