"""The one place where real processes are started; nothing is timed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgevit.benchmarks.candidate import Candidate
from edgevit.benchmarks.child import CandidateFailed, Child, start_process

BLOCK = {"command": "block", "spin_ns": 0}
PATIENT_S = 120


@pytest.fixture
def child() -> Iterator[Child]:
    child = start_process(Candidate(name="a", factory="scripted:make"))
    yield child
    child.close()


def load(
    child: Child, factory: str = "scripted:make", cpus: list[int] | None = None, **arguments: object
) -> dict[str, object]:
    if factory == "scripted:make":
        arguments = {"latencies_ns": [1], **arguments}
    message = {
        "command": "load",
        "factory": factory,
        "arguments": arguments,
        "images": None,
        "noise_images": 2,
        "seed": 0,
        "cpus": cpus,
        "include_transfers": True,
    }
    return child.ask(message, timeout_s=PATIENT_S)[0]


def run_block(child: Child, queries: int, timeout_s: float = PATIENT_S) -> dict[str, np.ndarray]:
    return child.ask(BLOCK, {"batches": np.zeros((queries, 1), dtype=np.int64)}, timeout_s=timeout_s)[1]


def test_a_process_builds_the_runner_and_runs_blocks_on_the_machines_clock(child: Child) -> None:
    loaded = load(child)
    assert loaded["input"] == {"name": "image", "dtype": "float32", "shape": [1, 3, 2, 2]}
    assert loaded["facts"] == {"runtime": "scripted", "version": "1", "threads": 1}
    assert loaded["batches"] == 2
    times = run_block(child, 5)
    assert times["start_ns"].shape == (5,)
    assert (times["end_ns"] >= times["start_ns"]).all()
    assert (times["start_ns"][1:] >= times["end_ns"][:-1]).all()
    assert child.pid != os.getpid()


def test_what_a_library_prints_does_not_break_the_protocol(child: Child) -> None:
    load(child, talk=True)
    assert len(run_block(child, 3)["end_ns"]) == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to CPUs")
def test_a_process_is_bound_to_the_cpus_asked_for(child: Child) -> None:
    cpu = min(os.sched_getaffinity(0))
    assert load(child, cpus=[cpu])["cpus"] == [cpu]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to CPUs")
def test_cpus_that_are_not_there_are_refused(child: Child) -> None:
    cpu = min(os.sched_getaffinity(0))
    with pytest.raises(CandidateFailed, match="cannot bind to CPUs"):
        load(child, cpus=[cpu, 4000])  # of which the system would take the one and forget the other


@pytest.mark.parametrize(
    "factory, kind, said",
    [
        ("scripted:refuse", "refused", "bundle 'x' has no model.onnx; export it again"),
        ("scripted:make_nothing", "refused", "gave a int; wanted a Runner"),
        ("scripted:absent", "refused", "cannot be imported"),
        ("no_such_module:f", "refused", "cannot be imported"),
    ],
)
def test_a_runner_that_cannot_be_built_says_why_in_one_line(child: Child, factory: str, kind: str, said: str) -> None:
    with pytest.raises(CandidateFailed) as failed:
        load(child, factory)
    assert failed.value.failure.kind == kind
    assert said in failed.value.failure.reason
    assert "\n" not in failed.value.failure.reason


def test_an_exception_is_told_in_one_line_with_its_traceback_beside_it(child: Child) -> None:
    load(child, misbehave="raise", at_call=2)
    with pytest.raises(CandidateFailed) as failed:
        run_block(child, 3)
    assert failed.value.failure.kind == "error"
    assert failed.value.failure.reason == "ValueError: a bug in two lines"
    assert "scripted.py" in failed.value.failure.detail


def test_a_crash_is_told_with_its_exit_status_and_last_words(child: Child) -> None:
    load(child, misbehave="die", at_call=2, talk=True)
    with pytest.raises(CandidateFailed) as failed:
        run_block(child, 3)
    assert failed.value.failure.kind == "died"
    assert failed.value.failure.reason == "'a' exited with status 3 during 'block'"


def test_a_killed_process_is_told_with_its_signal(child: Child) -> None:
    load(child, misbehave="kill", at_call=1)
    with pytest.raises(
        CandidateFailed, match=r"ended by signal 9 \(SIGKILL\) during 'block', as the kernel does when memory runs out"
    ):
        run_block(child, 1)
    with pytest.raises(CandidateFailed, match="SIGKILL"):  # and stays dead
        run_block(child, 1)


def test_a_hang_is_noticed_and_the_process_is_ended(child: Child) -> None:
    load(child, misbehave="hang", at_call=1)
    with pytest.raises(CandidateFailed) as failed:
        run_block(child, 1, timeout_s=0.2)
    assert failed.value.failure.kind == "hung"
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_a_process_survives_the_harness_ctrl_c_and_ends_when_its_pipe_closes() -> None:
    child = start_process(Candidate(name="a", factory="scripted:make"))
    load(child)
    assert os.getpgid(child.pid) != os.getpgid(0)
    child.close()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, signal.SIGCONT)


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="this system has no /proc/PID/oom_score_adj")
def test_the_kernel_is_told_to_end_a_candidate_before_the_harness(child: Child) -> None:
    load(child)
    assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "1000"
