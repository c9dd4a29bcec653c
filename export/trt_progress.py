"""How far the build of an engine is: TensorRT's nested phases as one share, an estimate, and a way to stop.

Runs on Python 3.10, where a Jetson builds. Does not know: networks, engines, terminals.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

__all__ = ["BuildMonitor", "BuildProgress", "library_monitor"]

# The child of each phase that takes nearly all of its time: on a GPU kernels are timed, ahead of time compiled.
# A name that a version does not use costs the estimate its quality and nothing else.
_LONG_ON_A_GPU = {
    "building engine": "building engine from subgraph",
    "building engine from subgraph": "computing profile costs",
    "computing profile costs": "timing graph nodes",
}
_LONG_AHEAD = _LONG_ON_A_GPU | {"computing profile costs": "determining refit engines"}
_LONG_SHARE = 0.9
_SETTLED = 0.15  # of the whole: before that there is no pace yet to go by


@dataclass(frozen=True)
class BuildProgress:
    """A moment of a build.

    Attributes:
        done: share of the work, 0 to 1; it never falls.
        doing: the innermost phase, as the library names it.
        left_s: estimate of the seconds left; None until there is ground for one.
    """

    done: float
    doing: str
    left_s: float | None


@dataclass
class _Phase:
    name: str
    parent: str | None
    steps: int
    done: int = 0
    long_done: bool = False


class BuildMonitor:
    """Follows the phases of one build; the library may call from several threads.

    Args:
        ahead: whether the build is ahead of time, without a GPU to time kernels on.
        clock: seconds, monotonic.
    """

    def __init__(self, *, ahead: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._long = _LONG_AHEAD if ahead else _LONG_ON_A_GPU
        self._clock = clock
        self._start_s = clock()
        self._lock = threading.Lock()
        self._phases: dict[str, _Phase] = {}  # those under way, the outermost first
        self._done = 0.0
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        """Let the library stop after the step it is at."""
        self._cancelled = True

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases[name] = _Phase(name, parent, max(steps, 1))

    def step_complete(self, name: str, step: int) -> bool:
        """Note that a step, counted from 0, is done; whether the library is to go on."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = step + 1
        return not self._cancelled

    def phase_finish(self, name: str) -> None:
        with self._lock:
            phase = self._phases.pop(name, None)
            parent = self._phases.get(phase.parent or "") if phase is not None else None
            if phase is not None and parent is not None and self._is_long(phase, parent):
                parent.long_done = True

    def now(self) -> BuildProgress:
        """Where the build is."""
        with self._lock:
            roots = [phase for phase in self._phases.values() if phase.parent not in self._phases]
            self._done = max([self._done, *map(self._share, roots)])
            doing = next(reversed(self._phases), "") or "prepare the build"
            done = self._done
        left_s = None
        if done >= _SETTLED:
            left_s = (self._clock() - self._start_s) * (1 - done) / done
        return BuildProgress(done, doing[:1].lower() + doing[1:], left_s)

    def _share(self, phase: _Phase) -> float:
        """The share of a phase that is done, 0 to 1, its children's shares in it."""
        children = [child for child in self._phases.values() if child.parent == phase.name]
        inside = max(map(self._share, children), default=0.0)
        even = min((phase.done + inside) / phase.steps, 1.0)
        if phase.name.lower() not in self._long:
            return even
        before = after = (1 - _LONG_SHARE) / 2
        if phase.long_done:
            return 1 - after * (1 - even)
        long = [child for child in children if self._is_long(child, phase)]
        return before + _LONG_SHARE * self._share(long[0]) if long else before * even

    def _is_long(self, phase: _Phase, parent: _Phase) -> bool:
        return self._long.get(parent.name.lower()) == phase.name.lower()


def library_monitor(library: ModuleType, monitor: BuildMonitor) -> Any:
    """A progress monitor of that library which tells `monitor`; it must live as long as the build."""

    class Monitor(library.IProgressMonitor):  # type: ignore[name-defined, misc]  # the base is that of the module passed in
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            monitor.phase_start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return monitor.step_complete(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            monitor.phase_finish(phase_name)

    return Monitor()
