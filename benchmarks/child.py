"""The harness's end of the pipe to a candidate's process: start it, ask it, notice when it dies or hangs."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from ._wire import decode, encode
from .candidate import Candidate

__all__ = ["CandidateFailed", "Child", "Failure", "ProcessChild", "start_process"]

# -c and not -m: the interpreter then puts nothing of its own before the parent's path, so that both import one edgevit.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from edgevit.benchmarks.worker import main; main()"


@dataclass(frozen=True)
class Failure:
    """How a candidate ended before its time.

    Attributes:
        kind: `refused` (an error the user can mend), `error` (an exception), `died` (the process), `hung`.
        reason: one line.
        detail: traceback or the end of the process's standard error; may be empty.
    """

    kind: Literal["refused", "error", "died", "hung"]
    reason: str
    detail: str = ""


class CandidateFailed(Exception):
    """A candidate failed; the harness records it and goes on with the others."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Child(Protocol):
    """What the harness needs of a candidate's process. Tests put a scripted one in its place."""

    @property
    def pid(self) -> int:
        """Process to watch."""

    def ask(
        self, message: Mapping[str, object], arrays: Mapping[str, np.ndarray] | None = None, *, timeout_s: float
    ) -> tuple[dict[str, object], dict[str, np.ndarray]]:
        """Send a command and wait for its answer.

        Raises:
            CandidateFailed: it answered with a failure, died, or did not answer in time.
        """

    def close(self) -> None:
        """End the process, gently if it listens."""


def start_process(candidate: Candidate) -> Child:
    """Start the process of one candidate; it has loaded nothing yet."""
    return ProcessChild(candidate.name)


class ProcessChild:
    """A candidate's process.

    Args:
        name: of the candidate, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # Ctrl-C is the harness's to handle: the candidate's block ends, and what was measured is kept.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._replies = _Replies(self._process.stdout.fileno())

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(
        self, message: Mapping[str, object], arrays: Mapping[str, np.ndarray] | None = None, *, timeout_s: float
    ) -> tuple[dict[str, object], dict[str, np.ndarray]]:
        assert self._process.stdin is not None
        self._replies.deadline = time.monotonic() + timeout_s
        try:
            self._process.stdin.write(encode(message, arrays))
            self._process.stdin.flush()
            reply, columns = decode(self._replies)
        except TimeoutError:
            self._kill()
            reason = f"'{self._name}' gave no sign of life for {timeout_s:.0f} s during '{message['command']}'"
            raise CandidateFailed(Failure("hung", reason, self._last_words())) from None
        except (EOFError, OSError):
            raise CandidateFailed(self._death(str(message["command"]))) from None
        if "failed" in reply:
            failure = Failure(reply["failed"], str(reply["reason"]), str(reply.get("detail", "")))  # type: ignore[arg-type]
            raise CandidateFailed(failure)
        return reply, columns

    def close(self) -> None:
        try:
            if self._process.poll() is None:
                self.ask({"command": "close"}, timeout_s=10)
                self._process.wait(timeout=10)
        except (CandidateFailed, subprocess.TimeoutExpired):
            # It was asked and would not: what it measured is safe, so its end needs no ceremony.
            self._kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                _close_quietly(pipe)
        self._errors.close()

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _death(self, command: str) -> Failure:
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # it closed its pipe and lives on
            self._kill()
            return Failure("died", f"'{self._name}' closed its pipe during '{command}'", self._last_words())
        how = f"exited with status {status}"
        if status < 0:
            how = f"was ended by signal {-status} ({signal.Signals(-status).name})"
        hint = ", as the kernel does when memory runs out" if -status == signal.SIGKILL else ""
        return Failure("died", f"'{self._name}' {how} during '{command}'{hint}", self._last_words())

    def _last_words(self) -> str:
        """The end of the process's standard error."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 4000))
        return self._errors.read().decode(errors="replace").strip()


def _close_quietly(pipe: object) -> None:
    try:
        pipe.close()  # type: ignore[attr-defined]
    except BrokenPipeError:
        # Bytes that a dead process never read; its death is already recorded.
        return


class _Replies:
    """Reads of a candidate's pipe that give up at a deadline."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pending = bytearray()
        self.deadline = 0.0

    def read_line(self) -> bytes:
        while (end := self._pending.find(b"\n")) < 0:
            self._fill()
        return self._take(end + 1)

    def read_exactly(self, size: int) -> bytes:
        while len(self._pending) < size:
            self._fill()
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._pending[:size])
        del self._pending[:size]
        return taken

    def _fill(self) -> None:
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, self.deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        content = os.read(self._descriptor, 1 << 20)
        if not content:
            raise EOFError
        self._pending += content
