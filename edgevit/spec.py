"""What a graph takes, gives and does, in words every part of edgevit shares. numpy and the standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = [
    "BlockCost",
    "Method",
    "Precision",
    "ReductionSpec",
    "Router",
    "RoutingMode",
    "RoutingSpec",
    "Selection",
    "TensorSpec",
]

RoutingMode = Literal["dense", "mask", "topk", "adaptive"]
Selection = Literal["top-k", "threshold"]
Router = Literal["none", "expert_choice", "token_choice"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Method = Literal["tome", "ltm", "dynamicvit", "evit"]


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
        budgets: under `adaptive`, for each step after the first the patches of its rungs, ascending, the last one all
            that are routed; empty for the other modes.
        tokens: that are routed: all patches, or what a merge before the first step made of them; 0 when it is made
            stands for all patches.
    """

    mode: RoutingMode
    router: Router
    selection: Selection | None
    steps: int
    grid: tuple[int, int]
    capacities: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()
    budgets: tuple[tuple[int, ...], ...] = ()
    tokens: int = 0

    def __post_init__(self) -> None:
        if self.tokens == 0:
            object.__setattr__(self, "tokens", self.patches)

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True, kw_only=True)
class ReductionSpec:
    """How a graph lets fewer tokens through than it has patches. The prefix (CLS) is never counted.

    Attributes:
        method: what chooses and fuses the tokens.
        grid: rows and columns of patches.
        tokens: that leave each block, one entry a block; a single entry for a merge before a recursive stack.
    """

    method: Method
    grid: tuple[int, int]
    tokens: tuple[int, ...]

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True, kw_only=True)
class BlockCost:
    """A block, or another part of the model, in a graph at its own batch size.

    Attributes:
        name: the module's path: `blocks.3`, `stages.1.blocks.0`, in the third pass through a shared stack
            `blocks.3[2]`; parts outside of blocks by their first name: `patch_embed`, `head`.
        flops: of matrix products and convolutions, two for each multiply-add.
        full_flops: the same if nothing had been merged, dropped or routed before or in it. Every product is scaled by
            how many more tokens would have come to it: once, or for attention among all tokens twice. 0 for what would
            not be there without a reduction.
        weight_bytes: of the weights it reads; shared ones are read in every pass.
        activation_bytes: of the results it writes, views aside.
        tokens: positions in an image (CLS among them) at its last product with a weight, which is the MLP's in a
            transformer block, the pixels of the map in a convolutional one; None where there is no such product.
    """

    name: str
    flops: int
    full_flops: int
    weight_bytes: int
    activation_bytes: int
    tokens: int | None
