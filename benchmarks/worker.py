"""The process of one candidate: builds its runner, owns the clock, runs what the harness asks for over the pipe.

It does not know: other candidates, when to stop, statistics. Whatever a library prints to standard output goes to
standard error, so that it cannot break the protocol.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgevit.errors import EdgevitError, InputError
from edgevit.probes import DeviceTimer, LayerProfiler
from edgevit.runner import Runner

from ._loadgen import run_single_stream
from ._wire import decode, encode
from .facts import library_versions
from .inputs import batches_of_images, noise_batches
from .layers import layer_costs
from .loops import Clock, SystemClock, Times, closed_loop, paced_loop
from .process_memory import read_process_memory

__all__ = ["Worker", "main"]

_Reply = tuple[Mapping[str, object], Mapping[str, np.ndarray]]


class Worker:
    """Carries out one command after another on one runner.

    Args:
        clock: read around every query.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runner: Runner | None = None
        self._batches: list[np.ndarray] = []
        self._read_device_ns: Callable[[], int] | None = None

    def answer(self, message: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> _Reply:
        """Carry out one command. What goes wrong is an answer too, so that the process can be asked to close."""
        commands = {
            "load": self._load,
            "route": self._route,
            "block": self._block,
            "profile": self._profile,
            "loadgen": self._loadgen,
            "close": self._close,
        }
        try:
            return commands[str(message["command"])](message, arrays)
        except EdgevitError as error:
            return {"failed": "refused", "reason": str(error)}, {}
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return {"failed": "error", "reason": reason, "detail": traceback.format_exc()}, {}

    def _load(self, message: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> _Reply:
        """Build and enter the runner, and lay its batches ready."""
        _bind_to_cpus(message["cpus"])
        before = read_process_memory()
        start = self._clock.now()
        runner = _build(str(message["factory"]), message["arguments"])
        runner.__enter__()
        load_ns = self._clock.now() - start
        self._runner = runner
        if message["images"] is not None:
            images, self._batches = batches_of_images(Path(str(message["images"])), runner.input.shape)
        else:
            images = 0
            self._batches = noise_batches(runner.input.shape, int(message["noise_images"]), int(message["seed"]))  # type: ignore[call-overload]
        if isinstance(runner, DeviceTimer):
            self._read_device_ns = _device_reader(runner, bool(message["include_transfers"]))
        return {
            "facts": dict(runner.facts),
            "input": asdict(runner.input),
            "outputs": [asdict(output) for output in runner.outputs],
            "libraries": library_versions(),
            "cpus": _cpus(),
            "load_ns": load_ns,
            "memory_before_load": before,
            "memory_after_load": read_process_memory(),
            "images": images,
            "batches": len(self._batches),
        }, {}

    def _route(self, message: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> _Reply:
        """Run every batch once, untimed, for the active patches of each image and step, if the graph tells them."""
        runner = self._loaded()
        if not any(output.name == "counts" for output in runner.outputs):
            return {}, {}
        counts = np.concatenate([runner(batch)["counts"] for batch in self._batches])
        return {}, {"counts": counts.astype(np.int64)}

    def _block(self, message: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> _Reply:
        """Run one block: `batches` int64 [queries, calls], and for paced queries `offsets_ns` int64 [queries]."""
        runner = self._loaded()
        queries = [[self._batches[index] for index in query] for query in arrays["batches"].tolist()]
        if self._read_device_ns is not None:
            self._read_device_ns()  # what earlier runs left behind
        if "offsets_ns" in arrays:
            times = paced_loop(
                runner,
                queries,
                arrays["offsets_ns"].tolist(),
                self._clock,
                spin_ns=int(message["spin_ns"]),  # type: ignore[call-overload]
                read_device_ns=self._read_device_ns,
            )
        else:
            times = closed_loop(runner, queries, self._clock, self._read_device_ns)
        return {"memory": read_process_memory()}, _columns(times)

    def _profile(self, message: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> _Reply:
        """Time the layers over `batches` int64 [queries], if the runner can."""
        runner = self._loaded()
        if not isinstance(runner, LayerProfiler):
            return {"absence": f"the {runner.facts['runtime']} runner does not time its layers"}, {}
        times = runner.profile([self._batches[index] for index in arrays["batches"].tolist()])
        return {"layers": [asdict(layer) for layer in layer_costs(times)]}, {}

    def _loadgen(self, message: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> _Reply:
        """Run loadgen's single-stream test."""
        queries, seed = int(message["queries"]), int(message["seed"])  # type: ignore[call-overload]
        return {"percentiles": run_single_stream(self._loaded(), self._batches, queries, seed)}, {}

    def _close(self, message: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> _Reply:
        """Leave the runner, which frees everything."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.__exit__(None, None, None)
        return {"closed": True}, {}

    def _loaded(self) -> Runner:
        if self._runner is None:
            raise RuntimeError("no runner is loaded")
        return self._runner


def _build(factory: str, arguments: Any) -> Runner:
    module_name, _, function_name = factory.partition(":")
    try:
        build = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"factory '{factory}' cannot be imported ({error}); wanted module:function") from None
    runner = build(**arguments)
    # Not isinstance(runner, Runner): before Python 3.12 that reads `input`, which is valid only once entered.
    if not (callable(runner) and hasattr(runner, "__enter__")):
        raise InputError(f"factory '{factory}' gave a {type(runner).__name__}; wanted a Runner")
    return runner  # type: ignore[no-any-return]


def _device_reader(timer: DeviceTimer, include_transfers: bool) -> Callable[[], int]:
    def read() -> int:
        times = timer.take_device_times()
        return times.compute_ns + (times.transfer_ns if include_transfers else 0)

    return read


def _columns(times: Times) -> dict[str, np.ndarray]:
    columns = {"intended_ns": times.intended_ns, "start_ns": times.start_ns, "end_ns": times.end_ns}
    return columns if times.device_ns is None else {**columns, "device_ns": times.device_ns}


def _bind_to_cpus(cpus: object) -> None:
    if cpus is None:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise InputError("this operating system cannot bind a process to CPUs; leave cpus out")
    allowed = sorted(os.sched_getaffinity(0))
    # Linux takes a set with a CPU that is not there, and leaves that one out without a word.
    if not set(cpus) <= set(allowed):  # type: ignore[call-overload]
        raise InputError(f"cannot bind to CPUs {cpus}; this process may use {allowed}")
    try:
        os.sched_setaffinity(0, cpus)  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(f"cannot bind to CPUs {cpus} ({error}); this process may use {allowed}") from None


def _cpus() -> list[int] | None:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _offer_to_out_of_memory_killer() -> None:
    """A candidate that eats all memory is to die before the harness, which holds the others' results."""
    adjust = Path("/proc/self/oom_score_adj")
    if adjust.exists():
        adjust.write_text("1000")


def _claim_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take standard input and output for the protocol, and leave an empty input and standard error in their place."""
    commands, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return commands, replies


class _Commands:
    """Blocking reads of the harness's pipe."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read_line(self) -> bytes:
        return self._read(self._stream.readline())

    def read_exactly(self, size: int) -> bytes:
        content = self._stream.read(size)
        return content if size == 0 else self._read(content)

    @staticmethod
    def _read(content: bytes) -> bytes:
        if not content:
            raise EOFError
        return content


def main() -> None:
    """Serve commands until the harness closes the pipe, which also happens when it is killed."""
    stream, replies = _claim_pipes()
    _offer_to_out_of_memory_killer()
    commands = _Commands(stream)
    worker = Worker(SystemClock())
    while True:
        try:
            message, arrays = decode(commands)
        except EOFError:
            return
        reply, columns = worker.answer(message, arrays)
        replies.write(encode(reply, columns))
        replies.flush()
        if reply.get("closed"):
            return
