"""Samples that still grow, and parts of samples."""

from __future__ import annotations

import numpy as np

from .measurement import Samples


class SampleBuffer:
    """Samples that still grow."""

    def __init__(self, calls: int) -> None:
        self._parts: list[Samples] = []
        self._calls = calls
        self.queries = 0
        self.measured_ns = 0

    def add(self, part: Samples) -> None:
        self._parts.append(part)
        self.queries += len(part)
        if len(part):
            self.measured_ns += int(part.end_ns[-1] - part.intended_ns[0])

    def samples(self) -> Samples:
        """All of them so far."""
        none = np.empty(0, dtype=np.int64)
        if not self._parts:
            return Samples(
                block=none,
                batches=np.empty((0, self._calls), dtype=np.int64),
                intended_ns=none,
                start_ns=none,
                end_ns=none,
            )
        device = [part.device_ns for part in self._parts]
        return Samples(
            block=np.concatenate([part.block for part in self._parts]),
            batches=np.concatenate([part.batches for part in self._parts]),
            intended_ns=np.concatenate([part.intended_ns for part in self._parts]),
            start_ns=np.concatenate([part.start_ns for part in self._parts]),
            end_ns=np.concatenate([part.end_ns for part in self._parts]),
            device_ns=None if device[0] is None else np.concatenate(device),  # type: ignore[arg-type]
        )


def rows(samples: Samples, part: slice) -> Samples:
    """Some of the queries."""
    return Samples(
        block=samples.block[part],
        batches=samples.batches[part],
        intended_ns=samples.intended_ns[part],
        start_ns=samples.start_ns[part],
        end_ns=samples.end_ns[part],
        device_ns=None if samples.device_ns is None else samples.device_ns[part],
    )
