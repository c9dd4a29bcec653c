"""Selecting, gathering, writing back and hiding tokens: pure functions with static shapes.

Shapes: B images, N tokens a sequence, K of them chosen, D channels. Every count is a Python int, so that a traced
graph has constant shapes, and every index is unique within its row, so that no scatter needs a reduction.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["HIDDEN", "gather", "hide", "lowest_index_top_k", "membership", "write_back"]

# Added to an attention logit to hide its key. Finite, because a row of -inf gives NaN and fp16 ends at 65504;
# exp(-1e4) is 0 exactly in fp32 and fp16 alike.
HIDDEN = -1e4


def lowest_index_top_k(scores: Tensor, k: int) -> Tensor:
    """Positions of the `k` largest scores of each row, ascending; of equal scores the lowest position wins.

    Args:
        scores: B x N, any floating type.
        k: how many to take, 1 to N.

    Returns:
        B x k int64, ascending along each row: the chosen tokens keep their order, so ties are broken alike at
        the next selection among them.
    """
    return _lowest_index_top_k(scores.detach(), k)


# An operator of its own, so that a traced graph holds it whole and the exporter can put ONNX's TopK in its place:
# that promises the lowest index on ties with a constant k, while of torch's operators only a stable sort does.
@torch.library.custom_op("edgevit::lowest_index_top_k", mutates_args=())
def _lowest_index_top_k(scores: Tensor, k: int) -> Tensor:
    best = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :k]
    return torch.sort(best, dim=1).values


@_lowest_index_top_k.register_fake
def _(scores: Tensor, k: int) -> Tensor:
    return scores.new_empty((scores.shape[0], k), dtype=torch.int64)


def gather(tokens: Tensor, index: Tensor) -> Tensor:
    """Rows of a batch of sequences: B x N x D (or B x N) and B x K int64 positions give B x K x D (or B x K).

    The batch is flattened so that this is one lookup of whole rows (ONNX Gather on axis 0): an index expanded
    over the channels (GatherElements) is more than ten times slower on ONNX Runtime's CPU provider.
    """
    batch, length = tokens.shape[:2]
    if batch > 1:
        index = index + torch.arange(0, batch * length, length, device=index.device)[:, None]
    return tokens.flatten(0, 1).index_select(0, index.flatten()).unflatten(0, tuple(index.shape))


def membership(index: Tensor, length: int) -> Tensor:
    """B x K unique positions as a B x `length` mask, True where a position is listed."""
    empty = torch.zeros(index.shape[0], length, dtype=torch.bool, device=index.device)
    return empty.scatter(1, index, True)


def write_back(tokens: Tensor, index: Tensor, chosen: Tensor) -> Tensor:
    """The sequence with its rows at `index` replaced: B x N x D, B x K int64 and B x K x D give B x N x D.

    Only a map of N row numbers is scattered; the channels move in one row lookup (see `gather`).
    """
    batch, length, _ = tokens.shape
    k = index.shape[1]
    rows = torch.arange(length, device=index.device).expand(batch, length)
    replaced = torch.arange(length, length + k, device=index.device).expand(batch, k)
    return gather(torch.cat([tokens, chosen], dim=1), rows.scatter(1, index, replaced))


def hide(active: Tensor) -> Tensor:
    """The additive attention mask that hides inactive patches as keys while CLS stays visible.

    Args:
        active: B x N bool, one entry a patch.

    Returns:
        B x 1 x 1 x (1 + N) float32: 0 for CLS and active patches, `HIDDEN` for the rest.
    """
    mask = torch.where(active, 0.0, HIDDEN)
    return torch.nn.functional.pad(mask, (1, 0))[:, None, None, :]
