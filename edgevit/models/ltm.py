"""Learned merging: a mask, computed from the tokens themselves, makes P tokens out of n between attention and MLP.

After LTM (Wang and Yang 2025, arXiv 2407.15219): the attention of a block sees all n tokens Z, a mask module gives a
merging mask G, n x P, and the MLP works on the P tokens G^T Z. What that mask module computes is not public: the
authors' code has no model in it, and the descriptions at hand disagree on whether the mask depends on the image at
inference. So what stands here has LTM's place and its kind of product, not its module:

    G = softmax over the n sources of (LayerNorm(Z) W + position),  W: D x P,  position: n x P, both learned.

It is what PatchMerger (Renggli et al. 2022, arXiv 2202.12015) merges with, plus a learned bias by position. The bias
begins as area resampling, so that a new reducer in a trained backbone gives it a smaller picture of the same thing
rather than noise; W begins near zero and learns what of the image should move the mask. Two products and a Softmax
are also what every runtime has.

B images, n sources, P targets, D channels. Masks are held as G^T, B x P x n, whose rows sum to 1: a Softmax over the
last axis needs no transpose.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.models.reduction import Attended, Reducer, Stream
from edgevit.models.tokens import gather, lowest_index_top_k

__all__ = ["LearnedMerging", "Variant", "best_gap", "best_targets", "target_grid"]


Variant = Literal["soft", "hard"]

# exp of it is what a source outside a target's neighbourhood weighs at first, against 1 for one wholly inside: little
# enough that 200 of them are a few percent, enough for a gradient.
_OUTSIDE = -8.0


class LearnedMerging(Reducer):
    """A learned mask that merges n tokens into P.

    Args:
        sources: n.
        tokens: P, from 1 to n - 1.
        width: D.
        grid: rows and columns of the sources, in row-major order; None where they are no grid.
        variant: `soft` - each target is a mean over all sources, weighted by the mask. `hard` - each source goes to
            the target in which it weighs most (of equals the first) and to no other; a target is the mean of what came
            to it, weighted by the mask, and one to which nothing came stays the soft mean. In training the gradient is
            that of the soft mask (straight-through).

    Raises:
        InputError: there is nothing to merge, or there are too few sources.
    """

    def __init__(
        self, sources: int, tokens: int, width: int, grid: tuple[int, int] | None = None, variant: Variant = "soft"
    ) -> None:
        super().__init__()
        if not 1 <= tokens < sources:
            raise InputError(f"merging {sources} tokens into {tokens}; give 1 to {sources - 1}")
        if grid is not None and grid[0] * grid[1] != sources:
            raise InputError(f"a grid of {grid[0]} x {grid[1]} for {sources} tokens; give one that holds as many")
        self.tokens = tokens
        self.variant = variant
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, tokens, bias=False)
        self.position = nn.Parameter(_neighbourhoods(sources, tokens, grid))
        nn.init.trunc_normal_(self.score.weight, std=1e-3)

    def forward(self, stream: Stream, attended: Attended | None) -> Stream:
        """The prefix as it is, then P tokens: means of means, so that no size is kept (LTM has none either)."""
        prefix, tokens = stream.x[:, : stream.prefix], stream.x[:, stream.prefix :]
        mask = self.mask(tokens)
        merged = self.merge(mask, tokens)
        x = torch.cat([prefix, merged], dim=1) if stream.prefix else merged
        origin = None if stream.origin is None else gather(best_targets(mask), stream.origin)
        return stream._replace(x=x, origin=origin, size=None)

    def gap(self, stream: Stream, attended: Attended | None) -> Tensor | None:
        """How clearly a hard mask gives each source to one target (`best_gap`); a soft one chooses nothing: None."""
        if self.variant == "soft":
            return None
        return best_gap(self.mask(stream.x[:, stream.prefix :]))

    def mask(self, tokens: Tensor) -> Tensor:
        """G^T of B x n x D tokens: B x P x n, every row a mean over the sources."""
        logits = self.score(self.norm(tokens)).transpose(1, 2) + self.position
        soft = torch.softmax(logits, dim=-1)
        if self.variant == "soft":
            return soft
        targets = torch.arange(self.tokens, device=soft.device)[:, None]
        chosen = (best_targets(soft)[:, None, :] == targets).to(soft.dtype) * soft
        total = chosen.sum(dim=-1, keepdim=True)
        unchosen = (total == 0).to(soft.dtype)
        hard = (chosen + unchosen * soft) / (total + unchosen)
        return soft + (hard - soft).detach() if self.training else hard

    @staticmethod
    def merge(mask: Tensor, tokens: Tensor) -> Tensor:
        """B x P x n and B x n x D give B x P x D."""
        return mask @ tokens


def best_targets(mask: Tensor) -> Tensor:
    """The target in which each source weighs most, of equals the first: B x P x n to B x n int64."""
    batch, targets, sources = mask.shape
    rows = mask.transpose(1, 2).reshape(batch * sources, targets)
    return lowest_index_top_k(rows, 1).reshape(batch, sources)


def best_gap(mask: Tensor) -> Tensor:
    """The least step from a source's best target to its next, of the mask's spread: B x P x n to B; 1 where P is 1."""
    mask = mask.detach()
    if mask.shape[1] == 1:
        return mask.new_ones(mask.shape[0])
    first, second = mask.topk(2, dim=1).values.unbind(dim=1)
    spread = mask.amax(dim=(1, 2)) - mask.amin(dim=(1, 2))
    return (first - second).amin(dim=1) / spread.clamp(min=torch.finfo(mask.dtype).tiny)


def target_grid(grid: tuple[int, int], tokens: int) -> tuple[int, int] | None:
    """The grid of so many tokens with the same aspect; None if there is none."""
    rows, columns = grid
    for row in range(1, rows + 1):
        if row * columns % rows == 0 and row * (row * columns // rows) == tokens:
            return row, row * columns // rows
    return None


def _neighbourhoods(sources: int, tokens: int, grid: tuple[int, int] | None) -> Tensor:
    """Logits P x n that make targets area means: over the grid where P makes one, else along the row-major line."""
    target = target_grid(grid, tokens) if grid is not None else None
    if grid is None or target is None:
        weight = _overlap(sources, tokens)
    else:
        weight = torch.kron(_overlap(grid[0], target[0]), _overlap(grid[1], target[1]))
    return weight.clamp(min=torch.tensor(_OUTSIDE).exp()).log()


def _overlap(sources: int, targets: int) -> Tensor:
    """How much of each of n equal pieces of a line lies in each of P equal pieces of the same line: P x n."""
    start = torch.arange(targets)[:, None] * (sources / targets)
    piece = torch.arange(sources)[None, :]
    return (torch.minimum(start + sources / targets, piece + 1) - torch.maximum(start, piece)).clamp(min=0)
