"""Learned merging in timm's EfficientViT (MIT's): after the lite attention of a block, before its convolutions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from edgevit.models.backbone import TimmClassifier
from edgevit.models.grid_reduced import Grid, GridReducedViT, Stage, halved

__all__ = ["MergedEfficientViT"]


class MergedEfficientViT(GridReducedViT):
    """An EfficientViT (MIT) of timm's with learned merging."""

    @staticmethod
    def stages_of(classifier: TimmClassifier) -> tuple[tuple[Stage, ...], Grid]:
        """Those with attention; the stem and every stage halve the picture."""
        model: Any = classifier.model
        grid = halved((classifier.config.image_size, classifier.config.image_size))
        stages: list[Stage] = []
        first = grid
        for stage in model.stages:
            grid = halved(grid)
            blocks = [block for block in stage.blocks if _attends(block)]
            if blocks:
                first = first if stages else grid
                stages.append(Stage(len(blocks), blocks[0].context_module.main.proj.conv.out_channels))
        return tuple(stages), first

    def _walk(self, image: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        x, masks, i = self.backbone.stem(image), {}, 0
        for block in (block for stage in self.backbone.stages for block in stage.blocks):
            if not _attends(block):
                x = block(x)
                continue
            x = block.context_module(x)
            if self.sites[i].merges:
                reducer, tokens = self._reducer(i), x.flatten(2)  # B x C x n
                masks[i] = reducer.mask(tokens.transpose(1, 2))
                x = (tokens @ masks[i].transpose(1, 2)).unflatten(2, self.sites[i].after)
            x = block.local_module(x)
            i += 1
        return x, masks


def _attends(block: Any) -> bool:
    return hasattr(block, "context_module")
