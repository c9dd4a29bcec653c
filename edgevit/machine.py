"""Which machine this is, as far as a measured time depends on it: one found elsewhere says nothing here.

Does not know: what is measured, libraries, accelerators.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from edgevit.files import sha256

__all__ = ["Machine", "this_machine"]

_UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What tells two machines apart.

    Attributes:
        architecture: `x86_64`.
        cpu: its model name; on Arm implementer and part.
        features: hash of the instruction sets it offers, which differ between virtual machines on one model.
        cpus: how many of them this process may use.
    """

    architecture: str
    cpu: str
    features: str
    cpus: int

    def __str__(self) -> str:
        return f"{self.cpu}, {self.architecture}, {self.cpus} CPU{'' if self.cpus == 1 else 's'}"

    def unlike(self, here: Machine) -> str:
        """What the machine at hand is, in words that tell it from this one even where both go by one name."""
        return "this one has other instruction sets" if str(self) == str(here) else f"this is {here}"


def this_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """The machine this process runs on.

    Args:
        cpuinfo: where Linux describes the processor; other systems have none, and their processor is told by what
            Python knows of it.
    """
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    cpu = fields.get("model name") or platform.processor() or _UNKNOWN
    if "CPU part" in fields:
        cpu = f"Arm implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"
    features = fields.get("flags") or fields.get("Features") or ""
    return Machine(
        architecture=platform.machine() or _UNKNOWN,
        cpu=cpu,
        features=sha256(" ".join(sorted(features.split())).encode())[:16],
        cpus=_usable_cpus(),
    )


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):  # not everywhere
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
