"""Token selection by what CLS attends to, the rest fused into one token (EViT, Liang et al. 2022, arXiv 2202.07800)."""

from __future__ import annotations

import torch
from torch import Tensor

from edgevit.errors import InputError
from edgevit.models import tokens
from edgevit.models.reduction import Attended, Reducer, Stream

__all__ = ["FusedSelection"]


class FusedSelection(Reducer):
    """The tokens that CLS attends to most go on, in their order, and one more, last, that stands for all others.

    The paper's fused token (section 3.3) is the sum of the others weighted by CLS's attention to them; here that sum is
    divided by the sum of those weights, so that a token enters the MLP as large as any other without training too.
    The token fused at one block is one of many at the next, chosen or fused again.

    Args:
        tokens: that go on: those chosen and the fused one, 2 or more.
        prefix: tokens at the beginning of the sequence that always go on; the first is CLS.

    Raises:
        InputError: there is no CLS, or no place for a chosen token beside the fused one.
    """

    needs_cls_attention = True

    def __init__(self, tokens: int, prefix: int) -> None:
        super().__init__()
        if prefix < 1:
            raise InputError("evit chooses tokens by the attention of CLS, and this backbone has none; use tome or ltm")
        if tokens < 2:
            raise InputError(f"evit to {tokens} tokens; give 2 or more: one it chooses, and the one it fuses")
        self.tokens = tokens
        self.chosen = tokens - 1

    def forward(self, stream: Stream, attended: Attended | None) -> Stream:
        """The stream with the chosen tokens and the fused one."""
        p, k, score = stream.prefix, self.chosen, _score(attended)
        batch, n = score.shape
        index = tokens.lowest_index_top_k(score, k)
        # The others by the weights of the chosen at 0, which needs no list of them. (The sum over all less the one over
        # the chosen would lose digits where CLS attends to little else.)
        weight = torch.where(tokens.listed(index, n), 0.0, score)
        weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
        fused = weight[:, None, :] @ stream.x[:, p:]
        leading = torch.arange(p, device=index.device).expand(batch, -1)
        x = torch.cat([tokens.gather(stream.x, torch.cat([leading, index + p], dim=1)), fused], dim=1)
        origin = stream.origin
        if origin is not None:
            rank = torch.arange(k, device=index.device).expand(batch, -1)
            origin = tokens.gather(tokens.places(index, rank - k, n) + k, origin)
        return Stream(x, p, origin)

    def gap(self, stream: Stream, attended: Attended | None) -> Tensor:
        """How clearly the last token was chosen: `tokens.selection_gap`."""
        return tokens.selection_gap(_score(attended), self.chosen)


def _score(attended: Attended | None) -> Tensor:
    assert attended is not None and attended.cls_attention is not None, "asked for by `needs_cls_attention`"
    return attended.cls_attention
