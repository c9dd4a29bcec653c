"""Memory of a process as Linux counts it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["read_process_memory"]

# Line of /proc/PID/status -> name in reports.
_LINES = {"VmRSS": "resident_bytes", "VmHWM": "peak_resident_bytes", "RssAnon": "anonymous_bytes"}


def read_process_memory(pid: int | str = "self", root: Path = Path("/")) -> dict[str, int]:
    """Resident, peak resident and anonymous memory in bytes; empty where /proc does not tell or the process is gone.

    Args:
        pid: the process.
        root: what `/` stands for; a recorded tree in tests.
    """
    try:
        content = (root / f"proc/{pid}/status").read_text()
    except OSError:
        return {}
    memory = {}
    for line in content.splitlines():
        key, _, value = line.partition(":")
        if key in _LINES:
            memory[_LINES[key]] = int(value.split()[0]) * 1024
    return memory
