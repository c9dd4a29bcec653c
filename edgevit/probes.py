"""What only some runtimes can tell, each a protocol of its own beside `Runner`.

A runner that can tell offers the method; nobody asks one that does not. The harness looks with `isinstance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

__all__ = ["DeviceTimer", "DeviceTimes", "LayerProfiler", "LayerTime"]


@dataclass(frozen=True)
class DeviceTimes:
    """Time spent by an accelerator, from its own events, in nanoseconds."""

    compute_ns: int
    transfer_ns: int


@runtime_checkable
class DeviceTimer(Protocol):
    """A runner that times its device by events."""

    def take_device_times(self) -> DeviceTimes:
        """Device time of this thread's calls since it last asked, and start again from zero."""


@dataclass(frozen=True)
class LayerTime:
    """One execution of one node of the graph as the runtime runs it.

    Attributes:
        layer: name of the node in the exported graph; what a fused layer was made of, joined by ` + `.
        operator: operator type, `MatMul`.
        query: which of the profiled queries, from 0.
        duration_ns: its time.
    """

    layer: str
    operator: str
    query: int
    duration_ns: int


@runtime_checkable
class LayerProfiler(Protocol):
    """A runner that can time its layers. Profiling slows a graph down, so it is a run of its own and never timed."""

    def profile(self, batches: Sequence[np.ndarray]) -> list[LayerTime]:
        """Run each batch once, B x 3 x H x W, and return the time of every layer in each run."""
