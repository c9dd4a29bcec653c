from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.export.trt_progress import BuildMonitor


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def inside_timing(clock: Clock, steps: int) -> BuildMonitor:
    """A build on a GPU that has come to where the time goes."""
    monitor = BuildMonitor(ahead=False, clock=clock)
    monitor.phase_start("Building engine", None, 6)
    monitor.step_complete("Building engine", 0)
    monitor.phase_start("Building engine from subgraph", "Building engine", 3)
    monitor.phase_start("Computing profile costs", "Building engine from subgraph", 5)
    monitor.phase_start("Timing graph nodes", "Computing profile costs", steps)
    return monitor


def test_nothing_is_done_before_the_first_phase() -> None:
    progress = BuildMonitor(ahead=True).now()
    assert (progress.done, progress.doing, progress.left_s) == (0.0, "prepare the build", None)


def test_the_timing_of_kernels_is_most_of_a_build_and_its_pace_is_the_estimate() -> None:
    clock = Clock()
    monitor = inside_timing(clock, steps=100)
    begun = monitor.now()
    assert begun.done < 0.2 and begun.doing == "timing graph nodes"
    monitor.step_complete("Timing graph nodes", 49)
    clock.now_s += 60
    halfway = monitor.now()
    assert 0.4 < halfway.done < 0.6
    assert halfway.left_s == pytest.approx(60 * (1 - halfway.done) / halfway.done)
    for phase in ("Timing graph nodes", "Computing profile costs", "Building engine from subgraph"):
        monitor.phase_finish(phase)
    assert monitor.now().done > 0.9


def test_without_a_pace_there_is_no_estimate() -> None:
    clock = Clock()
    monitor = BuildMonitor(ahead=True, clock=clock)
    monitor.phase_start("Building engine", None, 6)
    clock.now_s += 5
    assert monitor.now().left_s is None


def test_phases_of_unknown_names_count_evenly() -> None:
    monitor = BuildMonitor(ahead=False)
    monitor.phase_start("Brew", None, 4)
    monitor.step_complete("Brew", 0)
    monitor.phase_start("Pour", "Brew", 2)
    monitor.step_complete("Pour", 0)
    assert monitor.now().done == pytest.approx(1.5 / 4)


def test_a_cancelled_build_is_told_to_stop_at_its_next_step() -> None:
    monitor = BuildMonitor(ahead=False)
    monitor.phase_start("Building engine", None, 6)
    assert monitor.step_complete("Building engine", 0)
    monitor.cancel()
    assert not monitor.step_complete("Building engine", 1)
    assert monitor.cancelled


NAMES = st.sampled_from(["Building engine", "Building engine from subgraph", "Timing graph nodes", "Brew"])


@given(st.lists(st.tuples(st.sampled_from(["start", "step", "finish"]), NAMES, NAMES, st.integers(0, 5))))
def test_whatever_the_library_tells_the_share_stays_one_and_never_falls(
    events: list[tuple[str, str, str, int]],
) -> None:
    monitor = BuildMonitor(ahead=False)
    last = 0.0
    for event, name, parent, number in events:
        if event == "start":
            monitor.phase_start(name, parent if parent < name else None, number)
        elif event == "step":
            monitor.step_complete(name, number)
        else:
            monitor.phase_finish(name)
        done = monitor.now().done
        assert last <= done <= 1
        last = done
