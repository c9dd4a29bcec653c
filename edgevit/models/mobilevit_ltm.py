"""Learned merging in timm's MobileViT: one mask merges what attention made and what the block will be joined with.

A MobileViT block unfolds its map into patches of a pixels (2 x 2), runs a transformer over the N patches for each of
the a pixels apart, folds, and joins the outcome with the map it started from. So the map has to shrink with the
tokens: the same mask merges both (LTM for hybrid backbones as far as it is known, `ltm.py`). The mask is computed once
a patch, from the mean of its pixels, and merges each of them alike, so that they stay together.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, cat

from edgevit.models.backbone import TimmClassifier
from edgevit.models.grid_reduced import Grid, GridReducedViT, Stage

__all__ = ["MergedMobileViT"]


class MergedMobileViT(GridReducedViT):
    """A MobileViT of timm's with learned merging."""

    @staticmethod
    def stages_of(classifier: TimmClassifier) -> tuple[tuple[Stage, ...], Grid]:
        """Those with a transformer; no map may be of a size that patches do not divide, or it would be resized."""
        model: Any = classifier.model
        parts = [(stage, block) for stage in model.stages for block in stage if _attends(block)]
        stages = tuple(
            Stage(len(block.transformer), block.conv_1x1.out_channels, 2 ** (len(parts) - 1 - i))
            for i, (_, block) in enumerate(parts)
        )
        before = sum(1 for stage in model.stages if all(stage is not first for first, _ in parts))
        stride = 2 * 2**before * parts[0][1].patch_size[0]  # the stem halves, and every stage but the first
        side = classifier.config.image_size // stride
        return stages, (side, side)

    def _walk(self, image: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        masks: dict[int, Tensor] = {}
        x, i = self.backbone.stem(image), 0
        for block in (block for stage in self.backbone.stages for block in stage):
            depth = len(block.transformer) if _attends(block) else 0
            if any(site.merges for site in self.sites[i : i + depth]):
                x = self._merging_block(block, x, i, masks)
            else:
                x = block(x)
            i += depth
        return self.backbone.final_conv(x), masks

    def _merging_block(self, block: Any, x: Tensor, i: int, masks: dict[int, Tensor]) -> Tensor:
        """B x C x H x W to B x C' x H' x W'; the masks go into `masks`."""
        shortcut, patch = x, block.patch_size
        tokens = _unfold(block.conv_1x1(block.conv_kxk(x)), patch)  # b a n d
        for j, part in enumerate(block.transformer, start=i):
            rows = tokens.flatten(0, 1)
            rows = rows + part.drop_path1(part.ls1(part.attn(part.norm1(rows))))
            if self.sites[j].merges:
                reducer, tokens = self._reducer(j), rows.unflatten(0, tokens.shape[:2])
                masks[j] = reducer.mask(tokens.mean(dim=1))
                rows = (masks[j][:, None] @ tokens).flatten(0, 1)
                shortcut = _merged_map(shortcut, masks[j], self.sites[j].after, patch)
            rows = rows + part.drop_path2(part.ls2(part.mlp(part.norm2(rows))))
            tokens = rows.unflatten(0, (-1, math.prod(patch)))
        x = _fold(block.norm(tokens), self.sites[j].after, patch)
        x = block.conv_proj(x)
        return x if block.conv_fusion is None else block.conv_fusion(cat((shortcut, x), dim=1))


def _attends(block: Any) -> bool:
    return hasattr(block, "transformer")


def _unfold(x: Tensor, patch: Grid) -> Tensor:
    """B x C x H x W to B x a x N x C, as timm's block does it."""
    batch, channels, height, width = x.shape
    rows, columns = height // patch[0], width // patch[1]
    cut = x.reshape(batch, channels, rows, patch[0], columns, patch[1]).permute(0, 3, 5, 2, 4, 1)
    return cut.reshape(batch, math.prod(patch), rows * columns, channels)


def _fold(tokens: Tensor, grid: Grid, patch: Grid) -> Tensor:
    """B x a x N x C to B x C x H x W."""
    batch, _, _, channels = tokens.shape
    cut = tokens.reshape(batch, *patch, *grid, channels).permute(0, 5, 3, 1, 4, 2)
    return cut.reshape(batch, channels, grid[0] * patch[0], grid[1] * patch[1])


def _merged_map(x: Tensor, mask: Tensor, after: Grid, patch: Grid) -> Tensor:
    """A map with its patches merged: B x C x H x W and B x P x N give B x C x H' x W'."""
    batch, channels, height, width = x.shape
    rows, columns = height // patch[0], width // patch[1]
    cut = x.reshape(batch, channels, rows, patch[0], columns, patch[1]).permute(0, 1, 3, 5, 2, 4)
    merged = cut.reshape(batch, -1, rows * columns) @ mask.transpose(1, 2)  # b (c a) P
    back = merged.reshape(batch, channels, *patch, *after).permute(0, 1, 4, 2, 5, 3)
    return back.reshape(batch, channels, after[0] * patch[0], after[1] * patch[1])
