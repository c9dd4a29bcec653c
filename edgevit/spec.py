"""What a graph takes, gives and does, in words every part of edgevit shares. numpy and the standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["Precision", "Router", "RoutingMode", "RoutingSpec", "Selection", "TensorSpec"]

RoutingMode = Literal["dense", "mask", "topk", "adaptive"]
Selection = Literal["top-k", "threshold"]
Router = Literal["none", "expert_choice", "token_choice"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype name and static shape of one graph input or output."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} {' x '.join(map(str, self.shape))}"


@dataclass(frozen=True, kw_only=True)
class RoutingSpec:
    """How a graph carries routing out.

    Attributes:
        mode: the routing mode of the graph.
        router: the kind of router in the model.
        selection: the rule of an expert-choice router at inference; None for the other routers.
        grid: rows and columns of patches.
        capacities: patches step r may take under `top-k`, one entry a step; empty for the other rules.
        thresholds: raw router logits a patch must exceed under `threshold`, one entry for each step after the
            first; empty for the other rules.
        steps: recursion steps R.
    """

    mode: RoutingMode
    router: Router
    selection: Selection | None
    steps: int
    grid: tuple[int, int]
    capacities: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]
