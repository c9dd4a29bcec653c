"""What `edgevit bench` shows while it runs: the phase, and a row for each candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevit import console

if TYPE_CHECKING:
    from edgevit.benchmarks import Progress, Running

__all__ = ["progress_rows"]

_DOING = {
    "load": "loading",
    "warm-up": "warming up",
    "pilot": "A/A pilot",
    "measure": "measuring",
    "profile": "profiling",
}


def progress_rows(at: Progress) -> list[list[Any]]:
    """The phase with its share done and the time it still takes; below it, each candidate's median so far."""
    doing = f"{_DOING[at.phase]} {at.candidate}".rstrip()
    return [[console.faint(doing), f"{100 * at.done:.0f} %", console.time_left(at.remaining_s)], *map(_row, at.running)]


def _row(one: Running) -> list[Any]:
    if one.failed is not None:
        return [one.name, console.bad("failed"), one.failed]
    if one.median_ns is None:
        return [one.name, console.faint("-"), ""]
    interval = ""
    if one.interval is not None and one.interval.low is not None and one.interval.high is not None:
        low, high = console.milliseconds(one.interval.low), console.milliseconds(one.interval.high)
        interval = f"{low} to {high}, "
    return [one.name, f"{console.milliseconds(one.median_ns)} ms", f"{interval}{one.queries} queries"]
