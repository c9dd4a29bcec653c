from __future__ import annotations

import gc

import numpy as np
import pytest
from scripted import CLOCK, ScriptedRunner

from edgevit.benchmarks.loops import Times, closed_loop, paced_loop

IMAGE = np.zeros((1, 3, 2, 2), dtype=np.float32)
MS = 1_000_000


def runner(latencies_ms: list[float]) -> ScriptedRunner:
    return ScriptedRunner([round(latency * MS) for latency in latencies_ms]).__enter__()


def paced(latencies_ms: list[float], period_ms: int, queries: int, spin_ns: int = 0) -> Times:
    offsets = [period_ms * MS * (i + 1) for i in range(queries)]
    return paced_loop(runner(latencies_ms), [[IMAGE]] * queries, offsets, CLOCK, spin_ns=spin_ns)


def test_a_closed_loop_times_each_query_from_its_own_start() -> None:
    times = closed_loop(runner([1, 2, 5]), [[IMAGE]] * 3, CLOCK)
    assert (times.end_ns - times.start_ns).tolist() == [1 * MS, 2 * MS, 5 * MS]
    assert times.start_ns.tolist() == [0, 1 * MS, 3 * MS]
    assert times.intended_ns.tolist() == times.start_ns.tolist()


def test_a_query_of_several_batches_ends_with_its_last() -> None:
    times = closed_loop(runner([1, 2, 5]), [[IMAGE] * 3], CLOCK)
    assert (times.end_ns - times.start_ns).tolist() == [8 * MS]


def test_times_are_whole_nanoseconds() -> None:
    times = closed_loop(runner([0.000001]), [[IMAGE]], CLOCK)
    assert times.end_ns.dtype == np.int64
    assert (times.end_ns - times.start_ns).tolist() == [1]


def test_a_paced_query_that_is_on_time_waits_for_its_turn() -> None:
    times = paced([2], period_ms=10, queries=3)
    assert times.start_ns.tolist() == [10 * MS, 20 * MS, 30 * MS]
    assert (times.end_ns - times.intended_ns).tolist() == [2 * MS] * 3
    assert CLOCK.slept_ns == [10 * MS, 8 * MS, 8 * MS]


def test_a_slow_query_delays_the_next_and_the_delay_is_counted() -> None:
    """Without coordinated omission: the queries that a 25 ms one held up took 17 and 9 ms, not 2."""
    times = paced([25, 2, 2, 2], period_ms=10, queries=4)
    assert (times.end_ns - times.intended_ns).tolist() == [25 * MS, 17 * MS, 9 * MS, 2 * MS]
    assert (times.end_ns - times.start_ns).tolist() == [25 * MS, 2 * MS, 2 * MS, 2 * MS]


def test_a_period_below_the_service_time_falls_further_behind_with_every_query() -> None:
    times = paced([15], period_ms=10, queries=5)
    assert (times.start_ns - times.intended_ns).tolist() == [0, 5 * MS, 10 * MS, 15 * MS, 20 * MS]


def test_the_last_stretch_before_an_intended_start_is_watched_and_not_slept() -> None:
    CLOCK.reading_ns = 7
    times = paced([2], period_ms=10, queries=1, spin_ns=200_000)
    assert CLOCK.slept_ns == [10 * MS - 200_000 - 7]
    assert 0 <= times.start_ns[0] - times.intended_ns[0] < 7


def test_device_time_is_read_after_each_query_and_outside_it() -> None:
    readings = iter([100, 200])

    def read() -> int:
        CLOCK.time_ns += 5 * MS
        return next(readings)

    times = closed_loop(runner([1]), [[IMAGE]] * 2, CLOCK, read)
    assert times.device_ns is not None
    assert times.device_ns.tolist() == [100, 200]
    assert (times.end_ns - times.start_ns).tolist() == [1 * MS, 1 * MS]


def test_garbage_collection_is_off_inside_a_block_and_on_again_after_it_even_when_a_query_fails() -> None:
    seen = []

    def run(image: np.ndarray) -> None:
        seen.append(gc.isenabled())
        if len(seen) == 2:
            raise ValueError

    assert gc.isenabled()
    with pytest.raises(ValueError):  # noqa: PT011 - the runner's own, bare
        closed_loop(run, [[IMAGE]] * 2, CLOCK)
    assert seen == [False, False]
    assert gc.isenabled()


def test_outputs_are_freed_before_the_next_query_begins() -> None:
    alive = []

    class Output:
        def __init__(self) -> None:
            alive.append(self.__class__)

        def __del__(self) -> None:
            alive.pop()

    def run(image: np.ndarray) -> Output:
        assert not alive
        return Output()

    closed_loop(run, [[IMAGE]] * 3, CLOCK)
    assert not alive
