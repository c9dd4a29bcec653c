"""The processes of one training run: alone, or started by torchrun, one a device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from edgevit.errors import InputError

__all__ = ["World", "join_world"]


@dataclass(frozen=True)
class World:
    """This process among the others.

    Attributes:
        rank: 0 to size - 1; rank 0 writes files and reports.
        size: how many processes share a batch.
        device: what this one computes on.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def spread(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the processes; itself when alone.

        Buffers stay each process's own until `average_buffers`.
        """
        if self.size == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)

    def average_buffers(self, module: nn.Module) -> None:
        """Give every process the mean of the batch norms' running statistics, so that all keep one model."""
        if self.size == 1:
            return
        for buffer in module.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer /= self.size


@contextmanager
def join_world() -> Iterator[World]:
    """Join the group torchrun describes in the environment (RANK, WORLD_SIZE, LOCAL_RANK), or be alone.

    Raises:
        InputError: there are more processes on this machine than GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available()
    if cuda and local_rank >= torch.cuda.device_count():
        gpus = torch.cuda.device_count()
        raise InputError(f"process {local_rank + 1} on a machine of {gpus} GPUs; run: torchrun --nproc-per-node {gpus}")
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if size == 1:
        yield World(0, 1, device)
        return
    if cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield World(distributed.get_rank(), size, device)
    finally:
        distributed.destroy_process_group()
