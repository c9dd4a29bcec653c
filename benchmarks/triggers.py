"""Recorded triggers: the times at which a real line asked for an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgevit.errors import InputError

__all__ = ["read_trigger_file"]


def read_trigger_file(path: Path) -> tuple[float, ...]:
    """Gaps between triggers in milliseconds, from a text file of their times.

    One time in milliseconds a line, ascending, from any zero; empty lines and what follows a # are skipped.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be read, a line is no time or earlier than the one before, or there are fewer than two.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"trigger file '{path}' cannot be read ({error}); wanted a time in ms on each line") from None
    times: list[float] = []
    for row, line in enumerate(lines, start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        try:
            time_ms = float(content)
        except ValueError:
            time_ms = float("nan")
        if not np.isfinite(time_ms) or (times and time_ms < times[-1]):
            raise InputError(f"line {row} of '{path}' is '{content}'; wanted a time in ms, not before the one above")
        times.append(time_ms)
    if len(times) < 2 or times[0] == times[-1]:
        raise InputError(f"trigger file '{path}' has no two different times; wanted one in ms on each line")
    return tuple(np.diff(times).tolist())
