from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import tiny_run
import torch
from torch import nn

from edgevit.errors import InputError
from edgevit.models.checkpoint import load_checkpoint
from edgevit.training.world import World, join_world


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with join_world() as world:
        assert (world.rank, world.size, world.leads) == (0, 1, True)
        module = nn.BatchNorm1d(2)
        before = module.running_mean.clone() if module.running_mean is not None else None
        world.average_buffers(module)
        assert world.spread(module) is module
        assert before is not None
        assert torch.equal(module.state_dict()["running_mean"], before)
    assert not torch.distributed.is_initialized()


def test_the_first_process_leads() -> None:
    cpu = torch.device("cpu")
    assert [World(rank, 3, cpu).leads for rank in range(3)] == [True, False, False]


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError) as refusal, join_world():
        pass
    assert str(refusal.value) == "process 3 on a machine of 2 GPUs; run: torchrun --nproc-per-node 2"


def test_two_processes_end_with_the_same_weights(tmp_path: Path) -> None:
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("this torch was built without gloo")
    try:
        socket.create_server(("127.0.0.1", 0)).close()
    except OSError as error:
        pytest.skip(f"processes cannot talk to each other on this machine: {error}")
    run = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         tiny_run.__file__, tmp_path],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    weights: dict[str, list[str]] = defaultdict(list)
    for rank, digest in re.findall(r"rank ([0-9]) ([0-9a-f]{64})", run.stdout):  # lines of two processes may mix
        weights[rank].append(digest)
    assert set(weights) == {"0", "1"}
    assert weights["0"] == weights["1"], "after every validation both have the same weights and batch statistics"
    assert len(weights["0"]) == 3
    assert len(set(weights["0"])) == 2, "the last validation is of what the one before it judged"
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").labels == tiny_run.KINDS
