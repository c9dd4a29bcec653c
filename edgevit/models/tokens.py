"""Selecting, gathering, writing back, hiding and merging tokens: pure functions with static shapes.

Shapes: B images, N tokens a sequence, K of them chosen, D channels. Every count is a Python int, so that a traced
graph has constant shapes, and every index is unique within its row, so that no scatter needs a reduction.

Merging is ToMe's (Bolya et al. 2023, arXiv 2210.09461, section 3): the tokens at even positions of the whole sequence
(A) look for the most alike at odd positions (B), and the r best pairs become one. What the published code does with
argsort and scatter-reduce is done here with top-k, equality and a small matrix product, to the same order of tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from edgevit.errors import InputError

__all__ = [
    "HIDDEN",
    "Matching",
    "gather",
    "hide",
    "listed",
    "lowest_index_top_k",
    "match",
    "match_gap",
    "membership",
    "merge",
    "mergeable",
    "places",
    "ranked",
    "selection_gap",
    "successors",
    "unmerge",
    "write_back",
]

# Added to an attention logit to hide its key. Finite, because a row of -inf gives NaN; and no more than needed, because
# a runtime's exp need not end in 0: ONNX Runtime's gives 1e-45 for anything below -104, a denormal, and multiplying by
# those made a masked graph 1.6 times as slow as a dense one (1.06 now). exp(-60) = 9e-27 is a normal number, and stays
# one down to a hidden logit 27 below the row's largest visible one. It is no weight either: 1000 hidden keys together
# move a row by less than 1e-7 as long as none of their logits is more than 36 above the largest visible one, of which
# CLS is always one. In fp16, whose exp is 0 below -17.4, it is 43.
HIDDEN = -60.0


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


def ranked(scores: Tensor, k: int, *, dim: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The `k` best scores along a dimension, best first, and their positions; of equal ones the lowest comes first."""
    if torch.onnx.is_in_onnx_export():
        # Becomes ONNX's TopK, which promises this order; torch's own topk promises none among equals.
        return torch.topk(scores, k, dim=dim, largest=largest)
    values, index = torch.sort(scores, dim=dim, descending=largest, stable=True)
    return values.narrow(dim, 0, k), index.narrow(dim, 0, k)


def gather(tokens: Tensor, index: Tensor) -> Tensor:
    """Rows of a batch of sequences: B x N x D (or B x N) and B x K int64 positions give B x K x D (or B x K).

    The batch is flattened so that this is one lookup of whole rows (ONNX Gather on axis 0): an index expanded
    over the channels (GatherElements) is more than ten times slower on ONNX Runtime's CPU provider.
    """
    batch, length = tokens.shape[:2]
    if batch > 1:
        index = index + torch.arange(0, batch * length, length, device=index.device)[:, None]
    if tokens.dim() == 3:
        return functional.embedding(index, tokens.flatten(0, 1))
    return tokens.flatten().index_select(0, index.flatten()).reshape(index.shape)


def membership(index: Tensor, length: int) -> Tensor:
    """B x K unique positions as a B x `length` mask, True where a position is listed."""
    # Ones among zeros, compared afterwards: no release of TensorRT lists a scatter of booleans.
    empty = torch.zeros(index.shape[0], length, dtype=torch.int32, device=index.device)
    return empty.scatter(1, index, 1) > 0


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
    return functional.pad(mask, (1, 0))[:, None, None, :]


def places(index: Tensor, values: Tensor, length: int) -> Tensor:
    """Values at the listed positions and 0 elsewhere: B x K unique positions, B x K int64, to B x `length` int64.

    Scattering without a scatter, for maps of positions; a sequence of channels goes through `gather` instead.
    """
    return torch.where(_one_hot(index, length), values[:, None, :], 0).sum(dim=-1)


def listed(index: Tensor, length: int) -> Tensor:
    """As `membership`, in operators that every runtime has: for masks inside a reduced graph."""
    return torch.where(_one_hot(index, length), 1.0, 0.0).sum(dim=-1) > 0


def _one_hot(index: Tensor, length: int) -> Tensor:
    """B x K positions to B x `length` x K bool: whether this is the position of that entry."""
    return index[:, None, :] == torch.arange(length, device=index.device)[:, None]


class Matching(NamedTuple):
    """Which tokens of A are merged into which of B, r of them."""

    # B x (|A| - r) int64, ascending: positions in the sequence of those of A that stay; None if none do
    kept: Tensor | None
    merged: Tensor  # B x r int64, the most alike first: positions in the sequence of those that are merged away
    partner: Tensor  # B x r x 1 int64, a column for the comparison in `merge`: which one of B each of them goes into


def mergeable(length: int, protected: int) -> int:
    """How many of a sequence's tokens one merge can take away: half of those that are not protected, rounded down.

    Args:
        length: tokens of the whole sequence.
        protected: how many of them, at its beginning, neither merge nor are merged into.

    Raises:
        InputError: fewer than none are protected, or more than there are.
    """
    if not 0 <= protected <= length:
        raise InputError(f"{protected} tokens protected of a sequence of {length}; protect 0 to {length}")
    return (length - protected) // 2


def match(keys: Tensor, r: int, protected: int) -> Matching:
    """Bipartite soft matching: the r tokens of A that are most alike to one of B, and that one.

    Positions of the whole sequence alternate between A and B, the protected ones counted, as in the published method:
    behind one protected token, A has the 2nd, 4th, ... of `keys` and B the 1st, 3rd, ... Alike is the cosine of two
    keys; of equal ones the lowest position wins, for the partner and for the pair.

    Args:
        keys: B x n x d, of the tokens that are not protected.
        r: tokens to merge away, 1 to half of n.
        protected: tokens at the beginning of the sequence, which are not in `keys`.

    Raises:
        InputError: r is not what n tokens can give.
    """
    most = mergeable(protected + keys.shape[1], protected)
    if not 1 <= r <= most:
        raise InputError(
            f"a merge of {r} of {keys.shape[1]} tokens; one merge takes 1 to half of them, {most}: "
            "merge fewer here, or at more blocks"
        )
    best, partner = ranked(_likeness(keys, protected), 1)  # B x |A| x 1
    first = best.shape[1]
    _, order = ranked(best.flatten(1), first)
    position = order * 2 + (protected + protected % 2)
    merged, rest = position.split([r, first - r], dim=1)
    kept, _ = ranked(rest, first - r, largest=False) if r < first else (None, None)
    return Matching(kept, merged, gather(partner, order[:, :r]))


def _likeness(keys: Tensor, protected: int) -> Tensor:
    """Cosines of the keys of A with those of B: B x n x d to B x |A| x |B|."""
    keys = keys.detach()
    unit = keys / keys.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(keys.dtype).tiny)
    a = protected % 2
    return unit[:, a::2] @ unit[:, 1 - a :: 2].transpose(1, 2)


def merge(x: Tensor, size: Tensor | None, matching: Matching, protected: int) -> tuple[Tensor, Tensor]:
    """The sequence after a merge: merged tokens are the mean of theirs, weighted by their sizes.

    Args:
        x: B x N x D, the whole sequence.
        size: B x n float32, how many patches each token stands for that is not protected; None if each for one.
        matching: of the same sequence.
        protected: tokens at its beginning that stay as they are.

    Returns:
        B x (N - r) x D: the protected tokens, those of A that stay, B; and the sizes B x (n - r).
    """
    batch, length, _ = x.shape
    device = x.device
    leading = torch.arange(protected, device=device).expand(batch, -1)
    of_b = torch.arange(protected + 1 - protected % 2, length, 2, device=device).expand(batch, -1)
    rows = torch.cat([part for part in (leading, matching.kept, of_b) if part is not None], dim=1)
    # For each token that is merged away a row, which marks what it goes into; nothing goes into the part before B.
    into = torch.arange(of_b.shape[1] - rows.shape[1], of_b.shape[1], device=device)
    onto = matching.partner == into  # B x r x (N - r)
    one = x.new_ones(onto.shape[1], 1)
    if size is None:
        weight = onto.to(x.dtype).transpose(1, 2)
        after = 1 + weight @ one
        total = gather(x, rows) + weight @ gather(x, matching.merged)
    else:
        each = functional.pad(size, (protected, 0), value=1.0)[..., None]  # B x N x 1
        weight = torch.where(onto, gather(each, matching.merged), 0.0).transpose(1, 2)
        before = gather(each, rows)
        after = before + weight @ one
        total = gather(x, rows) * before + weight @ gather(x, matching.merged)
    return total / after, after[:, protected:].flatten(1)


def successors(matching: Matching, length: int, protected: int) -> Tensor:
    """The token that each one became part of; protected tokens counted neither before nor after.

    Args:
        matching: what was merged.
        length: tokens of the whole sequence before.
        protected: how many of them, at its beginning, were protected.

    Returns:
        B x n int64, values 0 to n - r - 1.
    """
    kept, merged, partner = matching
    batch = merged.shape[0]
    stay = 0 if kept is None else kept.shape[1]
    device = merged.device
    of_b = torch.arange(protected + 1 - protected % 2, length, 2, device=device)
    index = [merged, of_b.expand(batch, -1)]
    value = [partner.flatten(1) + stay, torch.arange(stay, stay + len(of_b), device=device).expand(batch, -1)]
    if kept is not None:
        index.append(kept)
        value.append(torch.arange(stay, device=device).expand(batch, -1))
    # Every token is listed once: its place in the list is where sorting the list finds it.
    _, place = ranked(torch.cat(index, dim=1), length - protected, largest=False)
    return gather(torch.cat(value, dim=1), place)


def unmerge(x: Tensor, matching: Matching, length: int, protected: int) -> Tensor:
    """Each token's value back at every place it came from: B x (N - r) x D to B x N x D.

    Args:
        x: the sequence after `merge`, protected tokens first.
        matching: what was merged.
        length: N.
        protected: tokens at the beginning of the sequence.
    """
    back = gather(x[:, protected:], successors(matching, length, protected))
    return torch.cat([x[:, :protected], back], dim=1)


def selection_gap(scores: Tensor, k: int) -> Tensor:
    """How clearly the k best of each row were chosen: the step from the k-th to the next score, B x N to B.

    As a share of the row's spread, so that rounding can be judged by it; 1 where there was nothing to choose.
    """
    if k >= scores.shape[1]:
        return scores.new_ones(scores.shape[0])
    return _share(_step(scores, k), scores.detach())


def match_gap(keys: Tensor, r: int, protected: int) -> Tensor:
    """How clearly a matching was made: the least step that, gone the other way, gives another one; B float32.

    That is the step from the r-th to the next pair, and for each token that is merged the one from its partner to the
    next best, all as shares of the spread of the likenesses.

    Args:
        keys: as for `match`.
        r: as for `match`.
        protected: as for `match`.
    """
    likeness = _likeness(keys, protected)
    pair = likeness.amax(dim=-1)
    # The pairs are fewer than the likenesses: their step counts in the spread of all.
    gaps = [_share(_step(pair, r), likeness.flatten(1))] if r < pair.shape[1] else []
    if likeness.shape[2] > 1:
        best = gather(likeness, ranked(pair, r)[1]).topk(2, dim=-1).values
        gaps.append(_share((best[..., 0] - best[..., 1]).amin(dim=1), likeness.flatten(1)))
    return torch.stack(gaps).amin(dim=0) if gaps else keys.new_ones(keys.shape[0])


def _step(scores: Tensor, k: int) -> Tensor:
    """From the k-th largest of each row to the next, B x N to B."""
    best = scores.detach().topk(k + 1, dim=1).values
    return best[:, k - 1] - best[:, k]


def _share(step: Tensor, scores: Tensor) -> Tensor:
    """A step, B, as a share of the spread of each row of scores; 0 where all are equal.

    Of a tenth of the largest score where that is more: rounding goes by the size of numbers, and the likenesses of a
    flat picture's patches lie closer together than ten of its steps.
    """
    spread = scores.amax(dim=1) - scores.amin(dim=1)
    scale = torch.maximum(spread, scores.abs().amax(dim=1) / 10)
    return step / scale.clamp(min=torch.finfo(scores.dtype).tiny)
