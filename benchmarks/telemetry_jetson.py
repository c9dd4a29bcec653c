"""Readers for Jetson boards, straight from sysfs, which outlives L4T releases: power rails, GPU, power mode."""

from __future__ import annotations

import re
from pathlib import Path

from ._sysfs import number, numbered, text
from .telemetry import Reading

__all__ = ["JetsonGpu", "JetsonRails", "jetson_power_mode"]


class JetsonRails:
    """Power of each rail of the INA3221 and INA238 monitors: voltage times current."""

    name = "jetson-rails"

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._rails: list[tuple[str, Path, Path]] = []
        self._powers: list[tuple[str, Path, float]] = []

    def find(self) -> str | None:
        for chip in numbered(self._root / "sys/class/hwmon", "hwmon*"):
            kind = text(chip / "name")
            if kind == "ina3221":
                self._find_rails(chip)
            elif kind in ("ina238", "ina237") and number(chip / "power1_input") is not None:
                label = text(chip / "device/label") or text(chip / "in1_label") or chip.name
                self._powers.append((label, chip / "power1_input", 1e6))  # microwatts
        for device in numbered(self._root / "sys/bus/i2c/drivers/ina3221x", "*/iio:device*"):  # JetPack 4
            for channel in range(3):
                name, power = text(device / f"rail_name_{channel}"), device / f"in_power{channel}_input"
                if name is not None and number(power) is not None:
                    self._powers.append((name, power, 1e3))  # milliwatts
        return None if self._rails or self._powers else "no INA3221 or INA238 power monitor in /sys/class/hwmon"

    def read(self) -> list[Reading]:
        readings = []
        for label, voltage, current in self._rails:
            millivolts, milliamperes = number(voltage), number(current)
            if millivolts is not None and milliamperes is not None:
                readings.append(Reading(f"power {label}", "W", millivolts * milliamperes / 1e6))
        for label, path, per_watt in self._powers:
            if (value := number(path)) is not None:
                readings.append(Reading(f"power {label}", "W", value / per_watt))
        return readings

    def _find_rails(self, chip: Path) -> None:
        for channel in (1, 2, 3):
            label = text(chip / f"in{channel}_label")
            voltage, current = chip / f"in{channel}_input", chip / f"curr{channel}_input"
            # "NC" is a channel that the board leaves unconnected.
            if label not in (None, "NC") and number(voltage) is not None and number(current) is not None:
                self._rails.append((str(label), voltage, current))


class JetsonGpu:
    """Clock and load of the integrated GPU."""

    name = "jetson-gpu"

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._clock: Path | None = None
        self._load: Path | None = None

    def find(self) -> str | None:
        for device in sorted((self._root / "sys/class/devfreq").glob("*")):
            # 57000000.gpu (Nano) to 17000000.gpu (Orin); gv11b, ga10b; gpu-gpc-0 (Thor, which tells load by NVML alone)
            if re.search(r"\.gpu$|\.gv11b$|\.gp10b$|\.ga10b$|^gpu-gpc-0$", device.name):
                if number(device / "cur_freq") is not None:
                    self._clock = device / "cur_freq"
                if number(device / "device/load") is not None:
                    self._load = device / "device/load"
        return None if self._clock or self._load else "no integrated GPU in /sys/class/devfreq"

    def read(self) -> list[Reading]:
        readings = []
        if self._clock is not None and (hertz := number(self._clock)) is not None:
            readings.append(Reading("gpu_clock", "MHz", hertz / 1e6))
        if self._load is not None and (per_mille := number(self._load)) is not None:
            readings.append(Reading("gpu_busy", "share", per_mille / 1000))
        return readings


def jetson_power_mode(root: Path = Path("/")) -> str | None:
    """Power mode by number and name, `0 MAXN`; None where there is no nvpmodel."""
    status = text(root / "var/lib/nvpmodel/status")  # "pmode:0000" and, after a change, more fields
    found = re.search(r"pmode:(\d+)", status or "")
    if found is None:
        return None
    mode = int(found.group(1))
    named = re.search(rf"<\s*POWER_MODEL\s+ID={mode}\s+NAME=([^\s>]+)", text(root / "etc/nvpmodel.conf") or "")
    return f"{mode} {named.group(1)}" if named else str(mode)
