"""Readers that any Linux may serve: CPU clock, load, temperature, throttling, processes, RAPL energy.

`root` stands for `/`, so that trees recorded on other devices can be read in tests.
"""

from __future__ import annotations

import os
from pathlib import Path

from ._sysfs import number, numbered, text
from .process_memory import read_process_memory
from .telemetry import Reading

__all__ = ["CpuClock", "EnergyCounters", "Load", "Processes", "Temperatures", "Throttling"]

# Devices of the kernel's thermal framework that cool by slowing something down. Fans cool too, and slow nothing.
_SLOWING = ("cpufreq", "devfreq", "thermal-cpufreq", "thermal-devfreq", "processor", "cpu-throttle", "gpu-throttle")


class CpuClock:
    """Current frequency over all clock domains: mean and lowest."""

    name = "cpu-clock"

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._files: list[Path] = []

    def find(self) -> str | None:
        folder = self._root / "sys/devices/system/cpu/cpufreq"
        files = [policy / "scaling_cur_freq" for policy in numbered(folder, "policy*")]
        self._files = [file for file in files if number(file) is not None]
        if self._files or self._from_cpuinfo():
            return None
        return "no cpufreq policies in /sys and no clocks in /proc/cpuinfo; virtual machines hide them"

    def read(self) -> list[Reading]:
        khz = [value for value in map(number, self._files) if value is not None]
        mhz = [value / 1000 for value in khz] or self._from_cpuinfo()
        if not mhz:
            return []
        return [Reading("cpu_clock_mean", "MHz", sum(mhz) / len(mhz)), Reading("cpu_clock_min", "MHz", min(mhz))]

    def _from_cpuinfo(self) -> list[float]:
        lines = (text(self._root / "proc/cpuinfo") or "").splitlines()
        return [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]


class Load:
    """How busy the CPUs are, and how busy with other work than the measurement's: shares of all CPUs since last read.

    Args:
        pids: process of each candidate, by name; may change while a measurement runs.
        root: what `/` stands for.
    """

    name = "load"

    def __init__(self, pids: dict[str, int], root: Path = Path("/")) -> None:
        self._pids = pids
        self._root = root
        self._last: tuple[float, float] | None = None
        self._last_own: dict[int, float] = {}

    def find(self) -> str | None:
        return None if self._busy_and_total() is not None else "/proc/stat cannot be read"

    def read(self) -> list[Reading]:
        now = self._busy_and_total()
        own = [os.getpid(), *self._pids.values()]
        own_now = {pid: ticks for pid in own if (ticks := self._process_ticks(pid)) is not None}
        last, self._last = self._last, now
        own_last, self._last_own = self._last_own, own_now
        if now is None or last is None or now[1] <= last[1]:
            return []
        elapsed = now[1] - last[1]
        busy = (now[0] - last[0]) / elapsed
        ours = sum(ticks - own_last.get(pid, ticks) for pid, ticks in own_now.items()) / elapsed
        # Ticks are coarse and the two files are not read at one instant, so the difference may be a hair below zero.
        return [Reading("cpu_busy", "share", busy), Reading("cpu_others", "share", max(0.0, busy - ours))]

    def _busy_and_total(self) -> tuple[float, float] | None:
        first = (text(self._root / "proc/stat") or "").partition("\n")[0].split()
        if first[:1] != ["cpu"] or len(first) < 6:
            return None
        # user nice system idle iowait irq softirq steal; guest time is already in user's.
        ticks = [float(field) for field in first[1:9]]
        total = sum(ticks)
        return total - ticks[3] - ticks[4], total

    def _process_ticks(self, pid: int) -> float | None:
        content = text(self._root / f"proc/{pid}/stat")
        if content is None:
            return None
        fields = content.rpartition(")")[2].split()  # the command's name, in brackets, may hold anything
        return float(fields[11]) + float(fields[12])


class Temperatures:
    """All thermal zones, and the CPU's own sensors where the zones leave them out."""

    name = "temperature"
    _CPU_CHIPS = ("coretemp", "k10temp", "zenpower")

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._sensors: dict[str, Path] = {}

    def find(self) -> str | None:
        for zone in numbered(self._root / "sys/class/thermal", "thermal_zone*"):
            self._add(text(zone / "type"), zone / "temp")
        for chip in numbered(self._root / "sys/class/hwmon", "hwmon*"):
            if (kind := text(chip / "name")) in self._CPU_CHIPS:
                for sensor in numbered(chip, "temp*_input"):
                    label = text(chip / sensor.name.replace("_input", "_label")) or sensor.name.removesuffix("_input")
                    if not label.startswith("Core "):  # the package's covers them
                        self._add(f"{kind} {label}", sensor)
        return None if self._sensors else "no thermal zones or CPU sensors in /sys"

    def read(self) -> list[Reading]:
        found = ((name, number(path)) for name, path in self._sensors.items())
        return [Reading(f"temperature {name}", "°C", value / 1000) for name, value in found if value is not None]

    def _add(self, kind: str | None, path: Path) -> None:
        # Zones of parts that are switched off exist and cannot be read.
        if kind is not None and number(path) is not None:
            name, copies = kind, 2
            while name in self._sensors:
                name, copies = f"{kind} {copies}", copies + 1
            self._sensors[name] = path


class Throttling:
    """Events and states by which hardware slows down: heat, over-current, low voltage."""

    name = "throttling"

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._counters: list[Path] = []
        self._cooling: list[Path] = []
        self._firmware: Path | None = None

    def find(self) -> str | None:
        cpus = numbered(self._root / "sys/devices/system/cpu", "cpu[0-9]*")
        counters = [cpu / "thermal_throttle" / f"{what}_throttle_count" for cpu in cpus for what in ("core", "package")]
        for chip in numbered(self._root / "sys/class/hwmon", "hwmon*"):
            counters += numbered(chip, "oc*_event_cnt")  # Jetson's over-current events
        self._counters = [path for path in counters if number(path) is not None]
        for device in numbered(self._root / "sys/class/thermal", "cooling_device*"):
            if (text(device / "type") or "").lower().startswith(_SLOWING):
                self._cooling.append(device / "cur_state")
        firmware = self._root / "sys/devices/platform/soc/soc:firmware/get_throttled"  # Raspberry Pi
        self._firmware = firmware if number(firmware) is not None else None
        if self._counters or self._cooling or self._firmware:
            return None
        return "no throttle counters or slowing cooling devices in /sys; virtual machines hide them"

    def read(self) -> list[Reading]:
        readings = []
        if self._counters:
            events = sum(value for value in map(number, self._counters) if value is not None)
            readings.append(Reading("throttle_events_total", "events", events))
        states = [value for value in map(number, self._cooling) if value is not None]
        if self._firmware is not None and (bits := number(self._firmware)) is not None:
            states.append(float(int(bits) & 0xF))  # the bits above say what happened since boot
        if states:
            readings.append(Reading("throttled", "devices", float(sum(state > 0 for state in states))))
        return readings


class Processes:
    """Resident memory and page faults that had to be read from disk, of each candidate's process.

    Args:
        pids: process of each candidate, by name; may change while a measurement runs.
        root: what `/` stands for.
    """

    name = "processes"

    def __init__(self, pids: dict[str, int], root: Path = Path("/")) -> None:
        self._pids = pids
        self._root = root

    def find(self) -> str | None:
        return None if (self._root / "proc").is_dir() else "there is no /proc"

    def read(self) -> list[Reading]:
        readings = []
        for name, pid in list(self._pids.items()):
            resident = read_process_memory(pid, self._root).get("resident_bytes")
            if resident is not None:
                readings.append(Reading(f"resident {name}", "bytes", float(resident)))
            stat = text(self._root / f"proc/{pid}/stat")
            if stat is not None:
                faults = float(stat.rpartition(")")[2].split()[9])
                readings.append(Reading(f"major_faults {name}_total", "faults", faults))
        return readings


class EnergyCounters:
    """Energy counters of x86 packages (RAPL), unwrapped, in joules since the first reading."""

    name = "rapl"

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._zones: list[tuple[str, Path, float]] = []
        self._last: dict[Path, float] = {}
        self._joules: dict[Path, float] = {}

    def find(self) -> str | None:
        forbidden = False
        for zone in numbered(self._root / "sys/class/powercap", "intel-rapl:*"):
            name = text(zone / "name")
            # Sub-zones (core, uncore) are parts of their package; memory is beside it.
            if name is None or not name.startswith(("package", "psys", "dram")):
                continue
            if number(zone / "energy_uj") is None:
                forbidden = True
                continue
            package = zone.name.split(":")[1]
            label = name if name.startswith("package") else f"{name} {package}"
            self._zones.append((label, zone / "energy_uj", number(zone / "max_energy_range_uj") or 0.0))
        if self._zones:
            return None
        if forbidden:
            return "RAPL counters are readable by root alone; run as root to have energy"
        return "no RAPL counters in /sys/class/powercap"

    def read(self) -> list[Reading]:
        readings = []
        for label, path, range_uj in self._zones:
            if (now := number(path)) is None:
                continue
            step = now - self._last.get(path, now)
            if step < 0:  # the counter wrapped
                step += range_uj
            self._last[path] = now
            self._joules[path] = self._joules.get(path, 0.0) + step / 1e6
            readings.append(Reading(f"energy {label}_total", "J", self._joules[path]))
        return readings
