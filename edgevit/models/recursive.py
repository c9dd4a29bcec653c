"""The recursive Vision Transformer: one shared stack of blocks, applied several times, fewer tokens each time.

After Mixture-of-Recursions (Bae et al. 2025, arXiv 2507.10524, sections 2.2 and 3) carried to images: patches are
routed, CLS goes through every step. The module holds the parts; how they are put together for a routing mode is
`routing.py`. A recursive model of one recursion without a router is a plain ViT, which is what `dense_twin` gives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.models.layers import Block, conv_stem, patch_stem
from edgevit.models.ltm import LearnedMerging
from edgevit.models.reduction import Attended, Reducer, Stream
from edgevit.models.tome import TokenMerging
from edgevit.spec import Router

__all__ = ["EarlyMerge", "MergeMethod", "Pool", "RecursiveConfig", "RecursiveViT", "Sharing", "Stem", "dense_twin"]

Sharing = Literal["cycle", "middle_cycle"]
Stem = Literal["patch", "conv"]
Pool = Literal["cls", "mean", "cls+mean"]
MergeMethod = Literal["tome", "ltm"]
_CHOICES = {"sharing": Sharing, "router": Router, "stem": Stem, "pool": Pool}


@dataclass(frozen=True, kw_only=True)
class EarlyMerge:
    """Patches merged before the first recursion step, so that two savings multiply.

    Attributes:
        method: `ltm` - a learned merging mask; `tome` - the most alike are averaged, without a parameter.
        tokens: how many are left for the steps.
    """

    method: MergeMethod
    tokens: int


@dataclass(frozen=True, kw_only=True)
class RecursiveConfig:
    """What a recursive ViT is made of.

    Attributes:
        image_size: H = W in pixels.
        patch_size: pixels a side of a patch.
        classes: C.
        width: D.
        heads: h, a divisor of D.
        depth: blocks K in the shared stack.
        recursions: steps R the stack is applied.
        sharing: `cycle` - the stack is all there is; `middle_cycle` - a block of its own before and after it,
            both over all tokens.
        per_step_norm: a LayerNorm of its own for each recursion step, with shared matrices.
        router: `expert_choice`, `token_choice`, or `none` (every token, every step).
        capacities: share of the patches step r may take, one entry a step; the first is 1 and none exceeds the
            one before. For `token_choice` it is the budget the router is trained to meet in the mean.
        thresholds: raw router logits calibrated for the steps after the first; None until calibrated.
        stem: `patch` (one convolution) or `conv` (a few of stride two).
        pool: what the head reads.
        mlp_ratio: hidden width of the MLP over D.
        early_merge: what happens to the patches before the first step; None where all of them enter it.
    """

    image_size: int = 224
    patch_size: int = 16
    classes: int = 1000
    width: int = 384
    heads: int = 6
    depth: int = 3
    recursions: int = 4
    sharing: Sharing = "cycle"
    per_step_norm: bool = False
    router: Router = "expert_choice"
    capacities: tuple[float, ...] = (1.0, 1 / 4, 1 / 8, 1 / 16)
    thresholds: tuple[float, ...] | None = None
    stem: Stem = "patch"
    pool: Pool = "cls"
    mlp_ratio: float = 4.0
    early_merge: EarlyMerge | None = None

    def __post_init__(self) -> None:
        for name in ("image_size", "patch_size", "classes", "width", "heads", "depth", "recursions"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 or more")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise InputError(f"{name} is '{getattr(self, name)}'; give one of: {', '.join(get_args(choices))}")
        if self.image_size % self.patch_size:
            below = max(self.image_size // self.patch_size, 1) * self.patch_size
            raise InputError(
                f"image size {self.image_size} is not divisible by the patch size {self.patch_size}; "
                f"try {below} or {below + self.patch_size}"
            )
        if self.width % self.heads:
            raise InputError(f"width {self.width} is not divisible by {self.heads} heads; change one of them")
        if not (math.isfinite(self.mlp_ratio) and self.width * self.mlp_ratio >= 1):
            raise InputError(f"mlp_ratio is {self.mlp_ratio}; give a number above 0, such as 4")
        if self.stem == "conv" and self.patch_size & (self.patch_size - 1):
            raise InputError(
                f"a conv stem halves the picture again and again, which does not lead to patches of {self.patch_size}; "
                "give a patch size that is a power of two, or the patch stem"
            )
        if self.early_merge is not None:
            self._check_merge(self.early_merge)
        if self.router != "none":
            self._check_schedule()

    def _check_merge(self, merge: EarlyMerge) -> None:
        """Refuse a merge that cannot be carried out."""
        if merge.method not in get_args(MergeMethod):
            raise InputError(f"early merge by '{merge.method}'; give one of: {', '.join(get_args(MergeMethod))}")
        # ToMe pairs each token with one of the other half, so that at most half of them can go at once.
        least = 1 if merge.method == "ltm" else self.patches - self.patches // 2
        if not least <= merge.tokens < self.patches:
            raise InputError(
                f"an early merge of {self.patches} patches to {merge.tokens} tokens; {merge.method} leaves {least} to "
                f"{self.patches - 1}"
            )

    def _check_schedule(self) -> None:
        """Refuse capacities and thresholds that no router could carry out."""
        if self.recursions < 2:
            raise InputError(
                f"router '{self.router}' with one recursion has nothing to choose; give 2, or router 'none'"
            )
        if len(self.capacities) != self.recursions:
            raise InputError(f"{len(self.capacities)} capacities for {self.recursions} recursions; give one a step")
        if self.capacities[0] != 1:
            raise InputError(f"the first capacity is {self.capacities[0]}; the first step takes every patch, so give 1")
        for r, (before, after) in enumerate(pairwise(self.capacities), start=2):
            if not 0 < after <= before:
                raise InputError(
                    f"capacity {after:g} at step {r} after {before:g}: selection is nested, so a capacity is above 0 "
                    "and never grows; give a falling schedule such as 1, 1/4, 1/8, 1/16"
                )
        if self.thresholds is None:
            return
        if self.router != "expert_choice":
            raise InputError(f"thresholds are for router 'expert_choice', not '{self.router}'; leave them out")
        if len(self.thresholds) != self.recursions - 1:
            raise InputError(
                f"{len(self.thresholds)} thresholds for {self.recursions} recursions; "
                f"give {self.recursions - 1}, one for each step after the first"
            )
        if not all(math.isfinite(threshold) for threshold in self.thresholds):
            raise InputError(f"the thresholds {self.thresholds} are not all finite; calibrate them again")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        side = self.image_size // self.patch_size
        return side, side

    @property
    def patches(self) -> int:
        """N."""
        return self.grid[0] * self.grid[1]

    @property
    def tokens(self) -> int:
        """Tokens that enter the first step, CLS not counted: the patches, or what an early merge leaves of them."""
        return self.patches if self.early_merge is None else self.early_merge.tokens

    @property
    def budget(self) -> tuple[int, ...]:
        """Tokens step r takes under top-k, one entry a step: at least one, rounded down."""
        # Rounded first, because 0.29 of 100 is 28.999999999999996 to the machine.
        return tuple(max(1, int(round(capacity * self.tokens, 6))) for capacity in self.capacities)


class RecursiveViT(nn.Module):
    """The parts of a recursive ViT. x is B x (1 + N) x D: CLS, then the patches in row-major order."""

    def __init__(self, config: RecursiveConfig) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        norms = config.recursions if config.per_step_norm else 1
        self.stem = (conv_stem if config.stem == "conv" else patch_stem)(width, config.patch_size)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, 1 + config.patches, width))
        self.blocks = nn.ModuleList(Block(width, config.heads, hidden, norms) for _ in range(config.depth))
        outer = config.sharing == "middle_cycle"
        self.first = Block(width, config.heads, hidden) if outer else None
        self.last = Block(width, config.heads, hidden) if outer else None
        if config.router == "expert_choice":
            self.routers = nn.ModuleList(nn.Linear(width, 1) for _ in range(config.recursions - 1))
        elif config.router == "token_choice":
            self.routers = nn.ModuleList([nn.Linear(width, config.recursions)])
        else:
            self.routers = nn.ModuleList()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width * (2 if config.pool == "cls+mean" else 1), config.classes)
        self._initialise()
        self.merge = _merger(config)

    def _initialise(self) -> None:
        """Truncated normals of 0.02 for matrices and embeddings, zero biases (the ViT convention)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.position, std=0.02)
        nn.init.trunc_normal_(self.cls, std=0.02)

    @property
    def reads_patches(self) -> bool:
        """Whether anything after the last step reads the patches, or CLS alone."""
        return self.last is not None or self.config.pool != "cls"

    def embed(self, image: Tensor) -> Tensor:
        """B x 3 x H x W to B x (1 + N) x D; under `middle_cycle` through the first block too."""
        patches = self.stem(image).flatten(2).transpose(1, 2)
        x: Tensor = torch.cat([self.cls.expand(image.shape[0], -1, -1), patches], dim=1) + self.position
        return x if self.first is None else self.first(x)

    def enter(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the first step takes, and which of its tokens each patch is part of.

        Returns:
            B x (1 + n) x D, n of `config.tokens`; B x N int64, or None where nothing was merged.
        """
        x = self.embed(image)
        if self.merge is None:
            return x, None
        origin = torch.arange(self.config.patches, device=x.device).expand(x.shape[0], -1)
        # There is no attention yet whose keys could tell which are alike, so the patches themselves do.
        merged = self.merge(Stream(x, 1, origin), Attended(x, x[:, 1:], None))
        return merged.x, merged.origin

    def step(self, x: Tensor, step: int, mask: Tensor | None = None) -> Tensor:
        """One pass of the shared stack, f(x), at recursion step `step` (0-based): B x n x D to B x n x D."""
        for block in self.blocks:
            x = block(x, step, mask)
        return x

    def score(self, patches: Tensor, step: int) -> Tensor:
        """Raw logits of the expert-choice router before recursion step `step` >= 1: B x n x D to B x n."""
        logits: Tensor = self.routers[step - 1](patches)
        return logits.squeeze(-1)

    def choose_depth(self, patches: Tensor) -> Tensor:
        """Raw logits of the token-choice router, asked once, after the first step: B x N x D to B x N x R.

        Every patch takes the first step, so that nothing is lost by choosing with what it brought.
        """
        logits: Tensor = self.routers[0](patches)
        return logits

    def readout(self, cls: Tensor, patches: Tensor) -> Tensor:
        """B x 1 x D and, where `reads_patches`, B x N x D give the logits B x C."""
        if self.last is not None:
            x = self.last(torch.cat([cls, patches], dim=1))
            cls, patches = x[:, :1], x[:, 1:]
        pooled = []
        if "cls" in self.config.pool:
            pooled.append(self.norm(cls)[:, 0])
        if "mean" in self.config.pool:
            pooled.append(self.norm(patches).mean(dim=1))
        logits: Tensor = self.head(torch.cat(pooled, dim=-1) if len(pooled) > 1 else pooled[0])
        return logits

    def forward(self, image: Tensor) -> Tensor:
        """B x 3 x H x W to logits B x C, routed as the model is trained: `edgevit.models.routing.reference`."""
        from edgevit.models.routing import reference  # here, because it is built from this module

        return reference(self, image).logits


def _merger(config: RecursiveConfig) -> Reducer | None:
    """The module that merges before the first step; sizes of tokens are left out of what follows, which is trained."""
    if config.early_merge is None:
        return None
    if config.early_merge.method == "ltm":
        return LearnedMerging(config.patches, config.early_merge.tokens, config.width, config.grid)
    return TokenMerging(config.patches, config.early_merge.tokens, 1)


def dense_twin(config: RecursiveConfig) -> RecursiveConfig:
    """The plain ViT of the same width and the same number of block passes, with nothing shared or routed."""
    blocks = config.depth * config.recursions + (2 if config.sharing == "middle_cycle" else 0)
    return replace(
        config, depth=blocks, recursions=1, sharing="cycle", per_step_norm=False, router="none", capacities=(1.0,),
        thresholds=None, early_merge=None,
    )  # fmt: skip
