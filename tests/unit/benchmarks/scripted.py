"""Runners whose latencies are scripted, the clock they move, and a child that lives in the test's own process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping

import numpy as np

from edgevit.benchmarks.candidate import Candidate
from edgevit.benchmarks.child import CandidateFailed, Failure
from edgevit.benchmarks.worker import Worker
from edgevit.errors import InputError
from edgevit.probes import LayerTime
from edgevit.spec import TensorSpec


class ScriptedClock:
    """Stands still but for what runners and sleepers let pass."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.time_ns = 0
        self.slept_ns: list[int] = []
        self.reading_ns = 0  # what each reading itself takes

    def now(self) -> int:
        self.time_ns += self.reading_ns
        return self.time_ns

    def sleep(self, duration_ns: int) -> None:
        self.slept_ns.append(duration_ns)
        self.time_ns += duration_ns


CLOCK = ScriptedClock()


class ScriptedRunner:
    """Takes the scripted times in turn, over and over; the first call may take longer.

    Args:
        latencies_ns: of the calls.
        first_ns: of the very first call.
        shape: of the input.
        steps: recursion steps told of; 0 for a graph without trace. Active patches follow the image's first value.
        by_image: the time is that many nanoseconds times the image's first value, beside the script.
        misbehave: at the call of that number: `die`, `hang`, `raise`, `refuse`, `interrupt`.
        at_call: that number, from 1.
        talk: print to standard output in every call.
    """

    def __init__(
        self,
        latencies_ns: list[int],
        first_ns: int | None = None,
        shape: tuple[int, ...] = (1, 3, 2, 2),
        steps: int = 0,
        by_image: int = 0,
        misbehave: str = "",
        at_call: int = 0,
        talk: bool = False,
    ) -> None:
        self._latencies_ns = latencies_ns
        self._first_ns = first_ns
        self._shape = tuple(shape)
        self._steps = steps
        self._by_image = by_image
        self._misbehave = misbehave
        self._at_call = at_call
        self._talk = talk
        self._entered = False
        self.calls = 0
        self.images: list[np.ndarray] = []

    @property
    def input(self) -> TensorSpec:
        self._check_entered()
        return TensorSpec("image", "float32", self._shape)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        self._check_entered()
        counts = (TensorSpec("counts", "int32", (self._shape[0], self._steps)),) if self._steps else ()
        return (TensorSpec("logits", "float32", (self._shape[0], 2)), *counts)

    @property
    def facts(self) -> Mapping[str, str | int]:
        self._check_entered()
        return {"runtime": "scripted", "version": "1", "threads": 1}

    def __enter__(self) -> ScriptedRunner:
        self._entered = True
        return self

    def __exit__(self, *_: object) -> None:
        self._entered = False

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        self._check_entered()
        self.images.append(image)
        latency = self._latencies_ns[self.calls % len(self._latencies_ns)]
        if self.calls == 0 and self._first_ns is not None:
            latency = self._first_ns
        self.calls += 1
        if self._talk:
            print("a library talks")
        if self.calls == self._at_call:
            self._go_wrong()
        CLOCK.time_ns += latency + round(self._by_image * float(image.flat[0]))
        outputs = {"logits": np.zeros((self._shape[0], 2), dtype=np.float32)}
        if self._steps:
            active = image.reshape(self._shape[0], -1)[:, :1].astype(np.int32)
            outputs["counts"] = active // (1 + np.arange(self._steps, dtype=np.int32))
        return outputs

    def _check_entered(self) -> None:
        if not self._entered:
            raise InputError("the runner is not entered")

    def _go_wrong(self) -> None:
        if self._misbehave == "die":
            os._exit(3)
        if self._misbehave == "kill":
            os.kill(os.getpid(), 9)
        if self._misbehave == "hang":
            time.sleep(600)
        if self._misbehave == "raise":
            raise ValueError("a bug\nin two lines")
        if self._misbehave == "refuse":
            raise InputError("no; do something else")
        if self._misbehave == "interrupt":
            raise KeyboardInterrupt


class LayeredRunner(ScriptedRunner):
    """One that times its layers, too."""

    def __init__(self, layers: dict[str, int], **arguments: object) -> None:
        super().__init__(**arguments)  # type: ignore[arg-type]
        self._layers = layers

    def profile(self, batches: list[np.ndarray]) -> list[LayerTime]:
        return [
            LayerTime(layer, layer.rpartition("/")[2], query, duration_ns)
            for query in range(len(batches))
            for layer, duration_ns in self._layers.items()
        ]


def make(layers: dict[str, int] | None = None, **arguments: object) -> ScriptedRunner:
    """The factory: `scripted:make`."""
    if layers is not None:
        return LayeredRunner(layers, **arguments)
    return ScriptedRunner(**arguments)  # type: ignore[arg-type]


def make_nothing() -> int:
    """A factory that gives no runner."""
    return 3


def refuse() -> ScriptedRunner:
    """A factory that refuses."""
    raise InputError("bundle 'x' has no model.onnx; export it again")


class LocalChild:
    """A worker in the test's own process, on the scripted clock; what goes wrong in it is told as a process would."""

    pid = 0

    def __init__(self, after_ask: Callable[[str], None] | None = None) -> None:
        self.worker = Worker(CLOCK)
        self.asked: list[str] = []
        self.closed = False
        self._after_ask = after_ask

    def ask(
        self, message: Mapping[str, object], arrays: Mapping[str, np.ndarray] | None = None, *, timeout_s: float
    ) -> tuple[dict[str, object], dict[str, np.ndarray]]:
        self.asked.append(str(message["command"]))
        reply, columns = self.worker.answer(json.loads(json.dumps(message)), arrays or {})
        if self._after_ask is not None:
            self._after_ask(str(message["command"]))
        reply = json.loads(json.dumps(reply))
        if "failed" in reply:
            raise CandidateFailed(Failure(reply["failed"], reply["reason"], reply.get("detail", "")))
        return reply, dict(columns)

    def close(self) -> None:
        self.closed = True


def launch_locally(candidate: Candidate) -> LocalChild:
    """A launcher for `measure`."""
    return LocalChild()


def scripted_candidate(name: str, latencies_ns: list[int], **arguments: object) -> Candidate:
    """A candidate with scripted latencies."""
    return Candidate(name=name, factory="scripted:make", arguments={"latencies_ns": latencies_ns, **arguments})
