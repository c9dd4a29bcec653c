"""Learned merging in backbones whose tokens lie on a grid: what Swin, MobileViT and EfficientViT have in common.

Their convolutions, windows and patch merging need rows and columns, so P tokens go on as a smaller grid of the same
aspect. Between stages each of the three halves its grid, rounding up. The timm model is held as it is, and a walker of
its own for each family (`swin_ltm`, `mobilevit_ltm`, `efficientvit_ltm`) goes through timm's children.

B images, N patches, n tokens before a merge and P after it, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.models.backbone import TimmClassifier, inference_form
from edgevit.models.fitting import check_weights
from edgevit.models.ltm import LearnedMerging, best_gap, best_targets, target_grid
from edgevit.models.reduced_config import ReducedConfig
from edgevit.models.reduction import Reduced, ReducedAt
from edgevit.models.tokens import gather

__all__ = ["Grid", "GridReducedViT", "Site", "Stage", "halved", "plan_sites"]

Grid = tuple[int, int]


class Stage(NamedTuple):
    """Transformer blocks of one resolution.

    Attributes:
        blocks: how many.
        width: C of their tokens.
        multiple: what rows and columns that leave a merge here are a multiple of, so that the stages after it fit.
    """

    blocks: int
    width: int
    multiple: int = 1


class Site(NamedTuple):
    """One transformer block: the grid that enters it, the one that leaves it, and the width."""

    before: Grid
    after: Grid
    width: int

    @property
    def merges(self) -> bool:
        return self.before != self.after


class GridReducedViT(nn.Module):
    """A two-dimensional backbone of timm's with learned merging at some of its blocks.

    Attributes:
        config: what it is made of.
        backbone: timm's model; its later blocks are told the smaller grids they get.
        reducers: by number of the block, as text.
        sites: one a transformer block, counted through all stages.
        grid: rows and columns of the patches: of what enters the first merge, or the first block where none merges.
        tokens_per_block: tokens that those patches make after each block. The halving between stages, which is the
            backbone's own, counts where another merge follows it.
    """

    def __init__(self, config: ReducedConfig, classifier: TimmClassifier) -> None:
        super().__init__()
        self.config = config
        self.backbone: Any = classifier.model
        stages, grid = self.stages_of(classifier)
        self.sites = plan_sites(classifier.config.name, stages, grid, config.schedule)
        self.reducers = nn.ModuleDict()
        for block in self._merging:
            before, after, width = self.sites[block]
            self.reducers[str(block)] = LearnedMerging(
                math.prod(before), math.prod(after), width, before, config.variant
            )
        self.grid = self.sites[self._merging[0] if self._merging else 0].before
        counts, n = [], math.prod(self.grid)
        for block, site in enumerate(self.sites):
            n = math.prod(site.after) if block in self._merging else n
            counts.append(n)
        self.tokens_per_block: tuple[int, ...] = tuple(counts)
        self._fit()

    @staticmethod
    def stages_of(classifier: TimmClassifier) -> tuple[tuple[Stage, ...], Grid]:
        """The stages with transformer blocks, and the grid that enters the first of them."""
        raise NotImplementedError

    def _fit(self) -> None:
        """Tell timm's blocks the grids they get, where they need to know."""

    def _walk(self, image: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """What timm's head takes, and the masks by block."""
        raise NotImplementedError

    @property
    def _merging(self) -> tuple[int, ...]:
        """The blocks that merge."""
        return tuple(block for block, site in enumerate(self.sites) if site.merges)

    def _reducer(self, block: int) -> LearnedMerging:
        return self.reducers[str(block)]  # type: ignore[return-value]

    def forward(self, image: Tensor) -> Tensor:
        """B x 3 x H x W to logits B x C."""
        return self.reduce(image, trace=False).logits

    def reduce(self, image: Tensor, *, trace: bool = True, gaps: bool = False) -> Reduced:
        """One forward pass, with what became of the patches.

        Args:
            image: B x 3 x H x W.
            trace: whether `assignment` is followed from merge to merge; None without.
            gaps: whether to measure how clearly a hard mask gives each patch to one token.
        """
        x, masks = self._walk(image)
        features = self.backbone.forward_head(x, pre_logits=True)
        steps = [best_gap(mask) for mask in masks.values()] if gaps and self.config.variant == "hard" else []
        return Reduced(
            self.backbone.get_classifier()(features),
            features,
            self._assignment(masks, image) if trace else None,
            gap=torch.stack(steps).amin(dim=0).float() if steps else None,
        )

    def _assignment(self, masks: Mapping[int, Tensor], image: Tensor) -> Tensor:
        """The token of the last merge that each patch is part of most: B x N int32."""
        origin = torch.arange(math.prod(self.grid), device=image.device).expand(image.shape[0], -1)
        grid = self.grid
        for block, mask in masks.items():
            site = self.sites[block]
            while grid != site.before:
                index, grid = _halving(grid, image.device), halved(grid)
                origin = gather(index.expand(image.shape[0], -1), origin)
            origin, grid = gather(best_targets(mask), origin), site.after
        return origin.to(torch.int32)

    def load_plain(self, weights: Mapping[str, Tensor], where: str = "weights") -> tuple[str, ...]:
        """Take the weights of timm's model; they must be exactly its own.

        Args:
            weights: by the names of timm's state dict.
            where: what they are, for errors: the file's path.

        Returns:
            Names of the reducers' weights, which stay as they are.

        Raises:
            InputError: they are another model's.
        """
        check_weights(self.backbone, weights, where)
        self.backbone.load_state_dict(dict(weights))
        return tuple(f"reducers.{name}" for name in self.reducers.state_dict())

    def inference_form(self) -> GridReducedViT:
        """A copy that answers the same and traces well (`backbone.inference_form`)."""
        return inference_form(self, self.config.image_size)


def halved(grid: Grid) -> Grid:
    """The grid of the next stage."""
    return (grid[0] + 1) // 2, (grid[1] + 1) // 2


def _halving(grid: Grid, device: torch.device) -> Tensor:
    """Where each position of a grid lies in the halved one: rows * columns int64."""
    rows, columns = (torch.arange(side, device=device) // 2 for side in grid)
    return (rows[:, None] * halved(grid)[1] + columns).flatten()


def plan_sites(name: str, stages: tuple[Stage, ...], grid: Grid, schedule: tuple[ReducedAt, ...]) -> tuple[Site, ...]:
    """The grids of every block under a schedule.

    Args:
        name: of the backbone, for errors.
        stages: in order.
        grid: what enters the first block.
        schedule: of the merges.

    Raises:
        InputError: a block that is not there, more tokens than come, or so many that make no grid that fits.
    """
    wanted = {at.block: at.tokens for at in schedule}
    blocks = sum(stage.blocks for stage in stages)
    for block in wanted:
        if block >= blocks:
            raise InputError(f"{name}: a merge at block {block} of {blocks}; blocks count from 0 to {blocks - 1}")
    sites: list[Site] = []
    for i, stage in enumerate(stages):
        grid = halved(grid) if i else grid
        for _ in range(stage.blocks):
            tokens = wanted.get(len(sites), math.prod(grid))
            after = _fitting(f"{name}: {tokens} tokens after block {len(sites)}", grid, tokens, stage.multiple)
            sites.append(Site(grid, after, stage.width))
            grid = after
    return tuple(sites)


def _fitting(what: str, grid: Grid, tokens: int, multiple: int) -> Grid:
    """The grid of so many tokens."""
    n = math.prod(grid)
    if tokens > n:
        raise InputError(f"{what}, into which {grid[0]} x {grid[1]} = {n} go; leave {n} or fewer")
    after = target_grid(grid, tokens)
    if after == grid or (after is not None and not any(side % multiple for side in after)):
        return after
    sides = [side for side in range(multiple, grid[0] + 1, multiple) if side * grid[1] % grid[0] == 0]
    counts = [side * (side * grid[1] // grid[0]) for side in sides]
    near = sorted(sorted({*counts, n}, key=lambda count: abs(count - tokens))[:3])
    each = f", rows and columns multiples of {multiple} for the stages after it" if multiple > 1 else ""
    raise InputError(
        f"{what} make no grid of the aspect of {grid[0]} x {grid[1]}{each}; give one of: {', '.join(map(str, near))}"
    )
