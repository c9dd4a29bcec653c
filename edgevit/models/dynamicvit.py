"""Token selection by a learned predictor (DynamicViT, Rao et al. 2021, arXiv 2106.02034)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevit.errors import InputError
from edgevit.models import tokens
from edgevit.models.reduction import Attended, Reducer, Stream

__all__ = ["KeepPredictor", "LearnedSelection"]


class KeepPredictor(nn.Module):
    """Log-probabilities to keep and to drop each token, from itself and the mean of those kept so far (equations 1-4).

    Args:
        width: D, a multiple of 4.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % 4:
            raise InputError(f"dynamicvit's predictor halves the width twice; {width} is no multiple of 4: use another")
        self.enter = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())
        self.judge = nn.Sequential(
            nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, width // 4), nn.GELU(),
            nn.Linear(width // 4, 2), nn.LogSoftmax(dim=-1),
        )  # fmt: skip

    def forward(self, patches: Tensor, keep: Tensor | None) -> Tensor:
        """B x n x D and which of them are kept so far (B x n, None for all) to B x n x 2: keep, drop."""
        local, of_all = self.enter(patches).chunk(2, dim=-1)
        if keep is None:
            mean = of_all.mean(dim=1, keepdim=True)
        else:
            # Masked out to the last one, a row would divide by nothing.
            mean = (of_all * keep[..., None]).sum(dim=1, keepdim=True) / keep.sum(dim=1).clamp(min=1.0)[:, None, None]
        return self.judge(torch.cat([local, mean.expand_as(local)], dim=-1))


class LearnedSelection(Reducer):
    """Before a block, the tokens with the highest probability to be worth keeping go on, in their order.

    In training no token is removed: a mask is drawn (straight-through Gumbel softmax, so that the predictor gets a
    gradient), and attention, means and the predictors behind leave out what it masks. In eval mode a fixed number is
    taken and the others are dropped.

    Args:
        tokens: that go on in eval mode.
        width: D.
    """

    place = "before"

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.predictor = KeepPredictor(width)

    def forward(self, stream: Stream, attended: Attended | None) -> Stream:
        """The stream with fewer tokens; in training with a mask that is nowhere above the one before."""
        if self.training:
            drawn = self.draw(self._judged(stream))
            return stream._replace(keep=drawn if stream.keep is None else stream.keep * drawn)
        p, k, score = stream.prefix, self.tokens, self._judged(stream)[..., 0]
        batch, n = score.shape
        index = tokens.lowest_index_top_k(score, k)
        leading = torch.arange(p, device=index.device).expand(batch, -1)
        x = tokens.gather(stream.x, torch.cat([leading, index + p], dim=1))
        origin = stream.origin
        if origin is not None:
            rank = torch.arange(k, device=index.device).expand(batch, -1)
            after = tokens.places(index, rank + 1, n) - 1
            gone = origin < 0
            # A choice and not a clamp, which no table of TensorRT lists for integers.
            origin = torch.where(gone, origin, tokens.gather(after, torch.where(gone, 0, origin)))
        return Stream(x, p, origin)

    def draw(self, judged: Tensor) -> Tensor:
        """A mask of 0 and 1 with a gradient: B x n x 2 log-probabilities to B x n."""
        return functional.gumbel_softmax(judged, hard=True, dim=-1)[..., 0]

    def gap(self, stream: Stream, attended: Attended | None) -> Tensor:
        """How clearly the last token was chosen: `tokens.selection_gap`."""
        return tokens.selection_gap(self._judged(stream)[..., 0], self.tokens)

    def _judged(self, stream: Stream) -> Tensor:
        return self.predictor(stream.x[:, stream.prefix :], stream.keep)
