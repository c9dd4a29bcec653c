"""Token reduction as it is usually written for training: a scatter that reduces, a sort, a mask, an emptied list.

Reimplemented from the papers' descriptions, to see what becomes of it in an export.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ScatteredMerging(nn.Module):
    """ToMe's merge by argsort and scatter_reduce, with the schedule popped from a list (arXiv 2210.09461).

    Attributes:
        left: merges still to be done, emptied by each forward pass.
    """

    def __init__(self, merged: int, times: int) -> None:
        super().__init__()
        self.left = [merged] * times
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        """B x N x D to B x (N - times x merged) x D."""
        for _ in range(self.times):
            x = self._merge(x, self.left.pop(0))
        return x

    @staticmethod
    def _merge(x: Tensor, r: int) -> Tensor:
        metric = x / x.norm(dim=-1, keepdim=True)
        a, b = metric[:, ::2], metric[:, 1::2]
        best, partner = (a @ b.transpose(1, 2)).max(dim=-1)
        order = best.argsort(dim=-1, descending=True)[..., None]
        kept, gone = order[:, r:], order[:, :r]
        into = partner[..., None].gather(1, gone)
        source, target = x[:, ::2], x[:, 1::2]
        width = x.shape[-1]
        moved = source.gather(1, gone.expand(-1, -1, width))
        target = target.scatter_reduce(1, into.expand(-1, -1, width), moved, reduce="mean")
        return torch.cat([source.gather(1, kept.expand(-1, -1, width)), target], dim=1)


class MaskedPruning(nn.Module):
    """Tokens with a score above a threshold, taken by a boolean mask, as learned pruning is often written."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """1 x N x D to 1 x (as many as pass) x D."""
        return x[self.score(x)[..., 0] > 0][None]
