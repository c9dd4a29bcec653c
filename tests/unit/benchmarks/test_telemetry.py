from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from device_trees import LAPTOP, ORIN, RASPBERRY, THOR, VIRTUAL_MACHINE, XAVIER, lay
from scripted import launch_locally, scripted_candidate

from edgevit.benchmarks import Settings, measure
from edgevit.benchmarks.facts import machine_facts
from edgevit.benchmarks.telemetry import Absence, Reader, Reading, Sampler
from edgevit.benchmarks.telemetry_jetson import JetsonGpu, JetsonRails, jetson_power_mode
from edgevit.benchmarks.telemetry_jtop import Jtop
from edgevit.benchmarks.telemetry_linux import CpuClock, EnergyCounters, Load, Processes, Temperatures, Throttling
from edgevit.benchmarks.telemetry_nvml import NvmlGpus

MS = 1_000_000


def values(reader: Reader) -> dict[str, float]:
    assert reader.find() is None
    return {reading.name: reading.value for reading in reader.read()}


def absence(reader: Reader) -> str:
    reason = reader.find()
    assert reason is not None
    assert "\n" not in reason
    assert reader.read() == []
    return reason


@pytest.mark.parametrize(
    "tree, mean, lowest", [(LAPTOP, 2100.0, 1400.0), (ORIN, 1356.8, 729.6), (RASPBERRY, 1500.0, 1500.0)]
)
def test_the_cpu_clock_is_the_mean_and_the_lowest_of_its_domains(
    tmp_path: Path, tree: dict[str, str | None], mean: float, lowest: float
) -> None:
    assert values(CpuClock(lay(tmp_path, tree))) == pytest.approx({"cpu_clock_mean": mean, "cpu_clock_min": lowest})


def test_without_cpufreq_the_clock_comes_from_cpuinfo(tmp_path: Path) -> None:
    root = lay(tmp_path, {"proc/cpuinfo": "cpu MHz\t: 2300.0\ncpu MHz\t: 2100.0\n"})
    assert values(CpuClock(root)) == {"cpu_clock_mean": 2200.0, "cpu_clock_min": 2100.0}


def test_temperatures_are_those_that_can_be_read_under_names_of_their_own(tmp_path: Path) -> None:
    assert values(Temperatures(lay(tmp_path / "laptop", LAPTOP))) == {
        "temperature acpitz": 27.8,
        "temperature x86_pkg_temp": 61.0,
        "temperature coretemp Package id 0": 62.0,
    }
    orin = values(Temperatures(lay(tmp_path / "orin", ORIN)))
    assert orin == {"temperature cpu-thermal": 48.25, "temperature gpu-thermal": 45.5}
    thor = values(Temperatures(lay(tmp_path / "thor", THOR)))
    assert thor == {"temperature tj-thermal": 52.0, "temperature tj-thermal 2": 53.0}


def test_throttling_counts_events_and_what_slows_now_but_not_fans(tmp_path: Path) -> None:
    assert values(Throttling(lay(tmp_path / "laptop", LAPTOP))) == {"throttle_events_total": 17, "throttled": 0}
    assert values(Throttling(lay(tmp_path / "orin", ORIN))) == {"throttle_events_total": 12, "throttled": 1}
    assert values(Throttling(lay(tmp_path / "raspberry", RASPBERRY))) == {"throttled": 1}


def test_energy_is_counted_from_the_first_reading_on_and_through_a_wrap(tmp_path: Path) -> None:
    reader = EnergyCounters(lay(tmp_path, LAPTOP))
    assert values(reader) == {"energy package-0_total": 0.0}
    counter = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.write_text("262143300000")
    assert reader.read()[0].value == pytest.approx(0.3)
    counter.write_text("971150")  # past 262143328850
    assert reader.read()[0].value == pytest.approx(0.3 + 1.0)


def test_energy_that_only_root_may_read_is_said_to_be(tmp_path: Path) -> None:
    forbidden = {**LAPTOP, "sys/class/powercap/intel-rapl:0/energy_uj": None}
    assert "run as root" in absence(EnergyCounters(lay(tmp_path, forbidden)))


def test_load_tells_other_work_from_the_measurements_own(tmp_path: Path) -> None:
    def stat(pid: int, user: int, system: int) -> str:
        return f"{pid} (a (strange) name) S 1 1 1 0 -1 4194304 100 0 7 0 {user} {system} 0 0 20 0 1 0 1 1 1"

    root = lay(tmp_path, {**LAPTOP, "proc/77/stat": stat(77, 10, 10), f"proc/{os.getpid()}/stat": stat(1, 5, 5)})
    reader = Load({"a": 77}, root)
    assert values(reader) == {}  # the first reading is where counting starts
    # 1000 ticks pass: 600 busy, of which 300 are the candidate's and 100 the harness's own.
    lay(root, {"proc/stat": "cpu  1500 0 600 8300 600 0 0 0 0 0\n"})
    lay(root, {"proc/77/stat": stat(77, 310, 10), f"proc/{os.getpid()}/stat": stat(1, 55, 55)})
    assert {r.name: r.value for r in reader.read()} == pytest.approx({"cpu_busy": 0.6, "cpu_others": 0.2})


def test_processes_tell_memory_and_faults_until_they_are_gone(tmp_path: Path) -> None:
    root = lay(
        tmp_path,
        {
            "proc/77/status": "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\nRssAnon:\t  512 kB\n",
            "proc/77/stat": "77 (x) S 1 1 1 0 -1 4194304 100 0 7 0 10 10 0 0 20 0 1 0 1 1 1",
        },
    )
    reader = Processes({"a": 77, "gone": 78}, root)
    assert values(reader) == {"resident a": 1024 * 1024, "major_faults a_total": 7}


def test_jetson_rails_are_volts_times_amperes_and_unconnected_ones_are_left_out(tmp_path: Path) -> None:
    orin = values(JetsonRails(lay(tmp_path / "orin", ORIN)))
    assert orin == pytest.approx({"power VDD_IN": 9.2, "power VDD_CPU_GPU_CV": 2.496})
    assert values(JetsonRails(lay(tmp_path / "thor", THOR))) == {"power VIN": 41.25}
    xavier = values(JetsonRails(lay(tmp_path / "xavier", XAVIER)))
    assert xavier == {"power VDD_IN": 4.321, "power VDD_CPU_GPU_CV": 1.0}


def test_the_integrated_gpu_is_found_under_its_names_and_tells_what_it_has(tmp_path: Path) -> None:
    assert values(JetsonGpu(lay(tmp_path / "orin", ORIN))) == {"gpu_clock": 918.0, "gpu_busy": 0.874}
    assert values(JetsonGpu(lay(tmp_path / "thor", THOR))) == {"gpu_clock": 1575.0}
    assert values(JetsonGpu(lay(tmp_path / "xavier", XAVIER))) == {"gpu_clock": 114.75, "gpu_busy": 0.0}


def test_the_power_mode_has_its_number_and_its_name_where_there_is_one(tmp_path: Path) -> None:
    assert jetson_power_mode(lay(tmp_path / "orin", ORIN)) == "2 15W"
    assert jetson_power_mode(lay(tmp_path / "thor", THOR)) == "0"
    assert jetson_power_mode(lay(tmp_path / "laptop", LAPTOP)) is None


def test_a_machine_says_what_it_is(tmp_path: Path) -> None:
    orin = machine_facts(lay(tmp_path / "orin", ORIN))
    assert orin["board"] == "NVIDIA Jetson Orin NX Engineering Reference Developer Kit"
    assert orin["cpu"] == "Arm implementer 0x41 part 0xd42"
    assert str(orin["l4t"]).startswith("# R36")
    assert orin["jetson_power_mode"] == "2 15W"
    laptop = machine_facts(lay(tmp_path / "laptop", LAPTOP))
    assert laptop["cpu"] == "11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz"
    assert laptop["memory_bytes"] == 16142132 * 1024
    assert laptop["cpu_governor"] == "powersave"
    assert "board" not in laptop


@pytest.mark.parametrize("kind", [CpuClock, Temperatures, Throttling, EnergyCounters, JetsonRails, JetsonGpu])
def test_a_virtual_machine_states_what_it_does_not_have(tmp_path: Path, kind: type) -> None:
    absence(kind(lay(tmp_path, VIRTUAL_MACHINE)))


@pytest.mark.parametrize("kind", [CpuClock, Temperatures, Throttling, EnergyCounters, JetsonRails, JetsonGpu])
def test_an_empty_tree_is_an_absence_and_no_error(tmp_path: Path, kind: type) -> None:
    absence(kind(tmp_path))


class FakeNvml:
    """The part of pynvml that is read: a GPU that tells all, and an integrated one that tells its clock alone."""

    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, gpus: int = 2) -> None:
        self._gpus = gpus

    def nvmlInit(self) -> None:
        if self._gpus < 0:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return self._gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetClockInfo(self, gpu: int, kind: int) -> int:
        return 1980

    def _only_first(self, gpu: int) -> None:
        if gpu:
            raise self.NVMLError("Not Supported")

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> object:
        self._only_first(gpu)
        return type("Rates", (), {"gpu": 97})()

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> object:
        self._only_first(gpu)
        return type("Memory", (), {"used": 2**30})()

    def nvmlDeviceGetPowerUsage(self, gpu: int) -> int:
        self._only_first(gpu)
        return 312_500

    def nvmlDeviceGetTemperature(self, gpu: int, sensor: int) -> int:
        self._only_first(gpu)
        return 71

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: int) -> int:
        self._only_first(gpu)
        return 0x1 | 0x4  # idle, and a power cap


def test_nvidia_gpus_tell_what_they_support() -> None:
    assert values(NvmlGpus(FakeNvml())) == {
        "gpu_clock 0": 1980,
        "gpu_busy 0": 0.97,
        "gpu_memory 0": 2**30,
        "gpu_power 0": 312.5,
        "temperature gpu 0": 71,
        "gpu_throttled 0": 1,
        "gpu_clock 1": 1980,
    }


def test_nvml_without_driver_or_gpu_is_an_absence() -> None:
    assert "Driver Not Loaded" in absence(NvmlGpus(FakeNvml(-1)))
    assert absence(NvmlGpus(FakeNvml(0))) == "NVML lists no GPU"


def test_jtop_gives_its_numbers_and_never_an_error() -> None:
    class Client:
        @property
        def stats(self) -> dict[str, object]:
            return {"GPU": 12, "Temp cpu": 43.5, "jetson_clocks": False, "nvp model": "15W"}

    class Broken:
        @property
        def stats(self) -> dict[str, object]:
            raise KeyError("load")

    assert values(Jtop(Client())) == {"jtop GPU": 12.0, "jtop Temp cpu": 43.5}
    assert values(Jtop(Broken())) == {}


class Scripted:
    """A reader that gives a value, a gap, a value."""

    name = "scripted"

    def __init__(self) -> None:
        self._values = [[Reading("x", "V", 1.0)], [], [Reading("x", "V", 3.0)]]

    def find(self) -> None:
        return None

    def read(self) -> list[Reading]:
        return self._values.pop(0) if self._values else []


class Absent:
    name = "absent"

    def find(self) -> str:
        return "there is none"

    def read(self) -> list[Reading]:
        raise AssertionError("an absent reader is not read")


def test_a_sampler_keeps_gaps_as_gaps_and_absences_as_statements() -> None:
    sampler = Sampler([Scripted(), Absent()], 1.0)
    for time_ns in (10, 20, 30):
        sampler.sample(time_ns)
    telemetry = sampler.telemetry()
    series = telemetry.find("x")
    assert series is not None
    assert (series.unit, series.source) == ("V", "scripted")
    assert series.time_ns.tolist() == [10, 30]
    assert series.value.tolist() == [1.0, 3.0]
    assert telemetry.absent == (Absence("absent", "there is none"),)
    assert telemetry.find("y") is None


def test_telemetry_is_stored_with_the_measurement() -> None:
    settings = Settings(min_duration_s=0.1, min_queries=1, warmup_cap_s=1)
    measurement = measure([scripted_candidate("a", [MS])], settings, launch=launch_locally, readers=[Scripted()])
    series = measurement.telemetry.find("x")
    assert series is not None
    assert series.value.dtype == np.float64
    off = Settings(min_duration_s=0.1, min_queries=1, warmup_cap_s=1, telemetry_interval_s=0)
    assert measure([scripted_candidate("a", [MS])], off, launch=launch_locally).telemetry.series == ()
