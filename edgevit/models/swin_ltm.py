"""Learned merging in timm's Swin Transformer: after the window attention of a block, before its MLP.

The blocks after a merge run on the smaller grid. timm's own `set_input_size` tells them; the window stays as it was
trained, so that the table of relative positions keeps its shape, and a grid that no window divides is padded, as Swin
does for images of other sizes (Liu et al. 2021, arXiv 2103.14030, section 3.2).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from edgevit.models.backbone import TimmClassifier
from edgevit.models.grid_reduced import Grid, GridReducedViT, Stage

__all__ = ["MergedSwin"]


class MergedSwin(GridReducedViT):
    """A Swin Transformer of timm's with learned merging."""

    @staticmethod
    def stages_of(classifier: TimmClassifier) -> tuple[tuple[Stage, ...], Grid]:
        """One a layer of timm's."""
        model: Any = classifier.model
        return tuple(Stage(len(layer.blocks), layer.blocks[0].dim) for layer in model.layers), tuple(
            model.patch_embed.grid_size
        )

    def _fit(self) -> None:
        blocks = [block for layer in self.backbone.layers for block in layer.blocks]
        for i, (block, site) in enumerate(zip(blocks, self.sites, strict=True)):
            if not self._merging or i <= self._merging[0]:
                continue
            if min(site.before) <= min(block.window_size):
                block.target_shift_size = (0, 0)  # one window holds the grid: a shift would only cut it up
            block.set_input_size(site.before, block.window_size, always_partition=True)

    def _walk(self, image: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        x, masks, i = self.backbone.patch_embed(image), {}, 0
        for layer in self.backbone.layers:
            x = layer.downsample(x)
            for block in layer.blocks:
                if self.sites[i].merges:
                    x, masks[i] = self._merging_block(block, x, i)
                else:
                    x = block(x)
                i += 1
        return self.backbone.norm(x), masks

    def _merging_block(self, block: Any, x: Tensor, i: int) -> tuple[Tensor, Tensor]:
        """B x H x W x C to B x H' x W' x C, and the mask."""
        x = x + block.drop_path1(block._attn(block.norm1(x)))
        tokens = x.flatten(1, 2)
        reducer = self._reducer(i)
        mask = reducer.mask(tokens)
        tokens = reducer.merge(mask, tokens)
        tokens = tokens + block.drop_path2(block.mlp(block.norm2(tokens)))
        return tokens.unflatten(1, self.sites[i].after), mask
