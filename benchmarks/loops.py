"""The timed loops: the only lines that run between two readings of the clock.

They know a callable, batches and a clock. They do not know: models, candidates, scenarios' rules, statistics.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

__all__ = ["Clock", "SystemClock", "Times", "closed_loop", "garbage_collection_off", "paced_loop"]


class Clock(Protocol):
    """Time in integer nanoseconds, and a way to let it pass. Tests script one."""

    def now(self) -> int: ...

    def sleep(self, duration_ns: int) -> None: ...


class SystemClock:
    """The monotonic clock. Its zero is one for all processes of a machine, so that telemetry lines up with samples."""

    def __init__(self) -> None:
        # An attribute, not a method: one Python frame less between the reading and the query.
        self.now: Callable[[], int] = time.perf_counter_ns

    def sleep(self, duration_ns: int) -> None:
        time.sleep(duration_ns / 1e9)


@dataclass(frozen=True)
class Times:
    """When queries were meant to start, started and ended, in nanoseconds of the clock; each [queries].

    In a closed loop a query is meant to start when it starts. `device_ns` is device time, where it was asked for.
    """

    intended_ns: np.ndarray
    start_ns: np.ndarray
    end_ns: np.ndarray
    device_ns: np.ndarray | None = field(default=None)


def closed_loop(
    run: Callable[[np.ndarray], object],
    queries: Sequence[Sequence[np.ndarray]],
    clock: Clock,
    read_device_ns: Callable[[], int] | None = None,
) -> Times:
    """Run queries one after another, each as soon as the one before is done.

    Args:
        run: runs one batch, B x 3 x H x W.
        queries: the batches of each query; a query has ended when its last batch has.
        clock: read right before and right after each query.
        read_device_ns: device time of the query just run; read outside the timed span.
    """
    now = clock.now
    starts: list[int] = []
    ends: list[int] = []
    device: list[int] = []
    with garbage_collection_off():
        for query in queries:
            if len(query) == 1:  # the common case without an inner loop's microsecond
                batch = query[0]
                start = now()
                outputs = run(batch)
                end = now()
            else:
                start = now()
                for batch in query:
                    outputs = run(batch)
                end = now()
            # Freed here, or the next query would pay for it.
            del outputs
            starts.append(start)
            ends.append(end)
            if read_device_ns is not None:
                device.append(read_device_ns())
    start_ns = np.array(starts, dtype=np.int64)
    return Times(
        intended_ns=start_ns,
        start_ns=start_ns,
        end_ns=np.array(ends, dtype=np.int64),
        device_ns=None if read_device_ns is None else np.array(device, dtype=np.int64),
    )


def paced_loop(
    run: Callable[[np.ndarray], object],
    queries: Sequence[Sequence[np.ndarray]],
    offsets_ns: Sequence[int],
    clock: Clock,
    *,
    spin_ns: int,
    read_device_ns: Callable[[], int] | None = None,
) -> Times:
    """Run queries at their intended starts, or as soon after as the queries before them allow.

    The intended starts never move: a query that has to wait is late, and its latency says so. That is what keeps slow
    queries from hiding the ones that they hold up (coordinated omission).

    Args:
        run: runs one batch.
        queries: the batches of each query.
        offsets_ns: intended start of each query after the start of the loop, ascending.
        clock: the clock, slept on until `spin_ns` before an intended start and watched from there.
        spin_ns: see above.
        read_device_ns: device time of the query just run.
    """
    now = clock.now
    starts: list[int] = []
    ends: list[int] = []
    device: list[int] = []
    with garbage_collection_off():
        begin = now()
        for query, offset in zip(queries, offsets_ns, strict=True):
            intended = begin + offset
            remaining = intended - now()
            if remaining > spin_ns:
                clock.sleep(remaining - spin_ns)
            start = now()
            while start < intended:
                start = now()
            for batch in query:
                outputs = run(batch)
            end = now()
            del outputs
            starts.append(start)
            ends.append(end)
            if read_device_ns is not None:
                device.append(read_device_ns())
    return Times(
        intended_ns=begin + np.array(offsets_ns, dtype=np.int64),
        start_ns=np.array(starts, dtype=np.int64),
        end_ns=np.array(ends, dtype=np.int64),
        device_ns=None if read_device_ns is None else np.array(device, dtype=np.int64),
    )


@contextmanager
def garbage_collection_off() -> Iterator[None]:
    """Collect now, and not again until the block is over."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
