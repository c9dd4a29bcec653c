"""What /sys, /proc and /var hold on several machines, file by file: what telemetry reads, with its oddities."""

from __future__ import annotations

from pathlib import Path

LAPTOP = {
    # Intel, one package, run as root
    "proc/cpuinfo": "model name\t: 11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz\ncpu MHz\t\t: 1200.5\n",
    "proc/meminfo": "MemTotal:       16142132 kB\nMemFree:  100 kB\n",
    "proc/stat": "cpu  1000 0 500 8000 500 0 0 0 0 0\ncpu0 500 0 250 4000 250 0 0 0 0 0\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "2800000\n",
    "sys/devices/system/cpu/cpufreq/policy1/scaling_cur_freq": "1400000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "7\n",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "0\n",
    "sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count": "7\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "sys/class/thermal/thermal_zone0/type": "acpitz\n",
    "sys/class/thermal/thermal_zone0/temp": "27800\n",
    "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp\n",
    "sys/class/thermal/thermal_zone1/temp": "61000\n",
    "sys/class/thermal/cooling_device0/type": "Processor\n",
    "sys/class/thermal/cooling_device0/cur_state": "0\n",
    "sys/class/thermal/cooling_device1/type": "intel_powerclamp\n",
    "sys/class/thermal/cooling_device1/cur_state": "-1\n",
    "sys/class/hwmon/hwmon4/name": "coretemp\n",
    "sys/class/hwmon/hwmon4/temp1_label": "Package id 0\n",
    "sys/class/hwmon/hwmon4/temp1_input": "62000\n",
    "sys/class/hwmon/hwmon4/temp2_label": "Core 0\n",
    "sys/class/hwmon/hwmon4/temp2_input": "60000\n",
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "262143000000\n",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
    "sys/class/powercap/intel-rapl:0:0/name": "core\n",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "1000000\n",
    "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj": "262143328850\n",
}

ORIN = {
    # Jetson Orin NX, JetPack 6
    "proc/device-tree/model": "NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0",
    "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n",
    "proc/stat": "cpu  100 0 100 800 0 0 0 0 0 0\n",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n# KERNEL_VARIANT: oot\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=15W >\n",
    "var/lib/nvpmodel/status": "pmode:0002",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1984000\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "729600\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48250\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "45500\n",
    "sys/class/thermal/thermal_zone2/type": "cv0-thermal\n",  # switched off: reading its temperature fails
    "sys/class/thermal/thermal_zone2/temp": None,
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "2\n",
    "sys/class/thermal/cooling_device1/type": "cpu-throttle-alert\n",
    "sys/class/thermal/cooling_device1/cur_state": "1\n",
    "sys/class/thermal/cooling_device2/type": "devfreq-17000000.gpu\n",
    "sys/class/thermal/cooling_device2/cur_state": "0\n",
    "sys/class/hwmon/hwmon1/name": "ina3221\n",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon1/in1_input": "5000\n",
    "sys/class/hwmon/hwmon1/curr1_input": "1840\n",
    "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/class/hwmon/hwmon1/in2_input": "4992\n",
    "sys/class/hwmon/hwmon1/curr2_input": "500\n",
    "sys/class/hwmon/hwmon1/in3_label": "NC\n",
    "sys/class/hwmon/hwmon1/in3_input": "0\n",
    "sys/class/hwmon/hwmon1/curr3_input": "0\n",
    "sys/class/hwmon/hwmon1/in7_label": "sum of shunt voltages\n",
    "sys/class/hwmon/hwmon1/in7_input": "11\n",
    "sys/class/hwmon/hwmon2/name": "soctherm_oc\n",
    "sys/class/hwmon/hwmon2/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon2/oc3_event_cnt": "12\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "918000000\n",
    "sys/class/devfreq/17000000.gpu/device/load": "874\n",
    "sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",
}

THOR = {
    # Jetson Thor, JetPack 7: no load in devfreq, INA238 beside INA3221
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "proc/stat": "cpu  100 0 100 800 0 0 0 0 0 0\n",
    "var/lib/nvpmodel/status": "pmode:0000 fmode:quiet",
    "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000\n",
    "sys/class/devfreq/gpu-nvd-0/cur_freq": "1692000000\n",
    "sys/class/hwmon/hwmon3/name": "ina238\n",
    "sys/class/hwmon/hwmon3/power1_input": "41250000\n",
    "sys/class/hwmon/hwmon3/device/label": "VIN\n",
    "sys/class/thermal/thermal_zone0/type": "tj-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "52000\n",
    "sys/class/thermal/thermal_zone1/type": "tj-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "53000\n",
}

XAVIER = {
    # Jetson Xavier NX, JetPack 4: rails through industrial I/O
    "proc/stat": "cpu  100 0 100 800 0 0 0 0 0 0\n",
    "sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0/rail_name_0": "VDD_IN\n",
    "sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0/in_power0_input": "4321\n",
    "sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0/rail_name_1": "VDD_CPU_GPU_CV\n",
    "sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0/in_power1_input": "1000\n",
    "sys/class/devfreq/17000000.gv11b/cur_freq": "114750000\n",
    "sys/class/devfreq/17000000.gv11b/device/load": "0\n",
}

RASPBERRY = {
    # Raspberry Pi 5, throttled now by low voltage and heat, and having been before
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/stat": "cpu  100 0 100 800 0 0 0 0 0 0\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "0x50005\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "82350\n",
}

VIRTUAL_MACHINE = {
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC 7763\n",
    "proc/stat": "cpu  100 0 100 800 0 0 0 50 0 0\n",
}


def lay(root: Path, files: dict[str, str | None]) -> Path:
    """Write a tree. None makes a path that exists and cannot be read as a file."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        else:
            path.write_text(content)
    return root
