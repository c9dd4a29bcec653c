"""What a reduced model is made of: a plain backbone, a method, and where it lets how many tokens through.

Without torch and timm, so that a description can be read, written and refused before either is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from edgevit.errors import InputError
from edgevit.models.backbone_config import TimmConfig
from edgevit.models.recursive import RecursiveConfig
from edgevit.models.reduction import ReducedAt
from edgevit.spec import Method

__all__ = ["ReducedConfig", "Variant", "check_schedule"]

Variant = Literal["soft", "hard"]


@dataclass(frozen=True, kw_only=True)
class ReducedConfig:
    """A plain Vision Transformer, or a timm classifier, with token reduction.

    Attributes:
        base: the backbone; a `RecursiveConfig` without a router and of one recursion, which is a plain ViT.
        method: of reduction.
        schedule: strictly ascending blocks, never more tokens than before; empty for the plain model.
        variant: of `ltm`: a soft merging mask, or one that is made hard.
    """

    base: TimmConfig | RecursiveConfig
    method: Method
    schedule: tuple[ReducedAt, ...]
    variant: Variant = "soft"

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InputError(f"method is '{self.method}'; give one of: {', '.join(get_args(Method))}")
        if self.variant not in get_args(Variant):
            raise InputError(f"variant is '{self.variant}'; give one of: {', '.join(get_args(Variant))}")
        if self.variant != "soft" and self.method != "ltm":
            raise InputError(f"variant '{self.variant}' is ltm's, not {self.method}'s; leave it out")
        for at in self.schedule:
            if at.block < 0:
                raise InputError(f"a reduction at block {at.block}; blocks count from 0")
            if at.tokens < 1:
                raise InputError(f"{at.tokens} tokens after block {at.block}; leave 1 or more")
        for before, after in pairwise(self.schedule):
            if after.block <= before.block:
                raise InputError(f"block {after.block} after block {before.block} in a schedule; give them in order")
            if after.tokens > before.tokens:
                raise InputError(
                    f"{after.tokens} tokens after block {after.block}, where {before.tokens} were left by block "
                    f"{before.block}; tokens never grow more"
                )
        if isinstance(self.base, RecursiveConfig):
            if self.base.router != "none" or self.base.recursions != 1 or self.base.early_merge is not None:
                raise InputError(
                    f"{self.method} on a recursive ViT with router '{self.base.router}' and {self.base.recursions} "
                    "recursions; reduce its dense twin, or give the recursive ViT an early merge"
                )
            blocks = self.base.depth + (2 if self.base.sharing == "middle_cycle" else 0)
            check_schedule(self.method, self.schedule, self.base.patches, blocks)

    @property
    def classes(self) -> int:
        """C."""
        return self.base.classes

    @property
    def image_size(self) -> int:
        """H = W in pixels."""
        return self.base.image_size


def check_schedule(method: Method, schedule: tuple[ReducedAt, ...], patches: int, depth: int) -> None:
    """Refuse a schedule that a backbone cannot carry out.

    Args:
        method: of reduction.
        schedule: in order of blocks.
        patches: tokens that enter the first block, the prefix not counted.
        depth: blocks of the backbone.

    Raises:
        InputError: a block or a number of tokens that the backbone does not have, or that the method cannot reach.
    """
    before = patches
    for at in schedule:
        if at.block >= depth:
            raise InputError(f"a reduction at block {at.block} of {depth}; blocks count from 0 to {depth - 1}")
        if at.tokens > before:
            raise InputError(
                f"{at.tokens} tokens after block {at.block}, into which {before} go; leave {before} or fewer"
            )
        if method == "tome" and before - at.tokens > before // 2:
            raise InputError(
                f"a merge of {before - at.tokens} of {before} tokens at block {at.block}; one merge takes at most half "
                f"of them, {before // 2}: merge fewer here, or at more blocks"
            )
        if method == "evit" and at.tokens < 2 and before > at.tokens:
            raise InputError(f"{at.tokens} token after block {at.block}; evit leaves one it chose and one it fused: 2")
        before = at.tokens
