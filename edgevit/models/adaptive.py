"""Routing that follows the picture: each step runs in the smallest of a few static token counts that holds its tokens.

Such a count is a rung, the counts of a step are its ladder. B images, N patches, D channels, K patches of a rung. One
rung serves the whole batch, that of the image with the most active patches: the graph branches once a step, and an
image alone is the case that counts on a line.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgevit.models import tokens
from edgevit.models.recursive import RecursiveViT
from edgevit.models.routing import Routed, blend, route_by
from edgevit.spec import Selection

__all__ = ["route_adaptive", "step_in_rung"]

# What an inactive patch has instead of a gate, which is 0 or more: it ranks behind every active one.
INACTIVE = -1.0


def route_adaptive(
    model: RecursiveViT, image: Tensor, budgets: tuple[tuple[int, ...], ...], selection: Selection | None = None
) -> Routed:
    """The answer of `mask` under the same rule, at the price of the smallest rung that holds the active patches.

    Args:
        model: a model with a router.
        image: B x 3 x H x W.
        budgets: for each step after the first the patches of its rungs, ascending, the last one N.
        selection: `threshold` for expert choice, None for token choice.

    Raises:
        InputError: `threshold` without calibrated thresholds.
    """

    def run(x: Tensor, active: Tensor, gate: Tensor, r: int) -> Tensor:
        ranked = torch.where(active, gate, INACTIVE)
        if torch.compiler.is_exporting():
            traced: Tensor = _smallest_rung(x, ranked, r)
            return traced
        most = int(active.sum(dim=1).max())
        return step_in_rung(model, x, ranked, r, min(k for k in budgets[r - 1] if k >= most))

    return route_by(model, image, selection, run)


def step_in_rung(model: RecursiveViT, x: Tensor, ranked: Tensor, step: int, k: int) -> Tensor:
    """One step over CLS and `k` patches.

    A rung that holds more patches than are active fills up with others, which are hidden from attention and keep what
    they were: their gate is 0.

    Args:
        model: a model with a router.
        x: B x (1 + N) x D.
        ranked: B x N, the gate of each active patch and `INACTIVE` for the others; at most `k` are active.
        step: 0-based.
        k: patches of the rung, 0 to N.

    Returns:
        B x (1 + N) x D: CLS and the active patches updated.
    """
    if k == 0:
        return torch.cat([model.step(x[:, :1], step), x[:, 1:]], dim=1)
    patches = x[:, 1:]
    before, gate, index = patches, ranked, None
    if k < patches.shape[1]:
        # In the order of rank: attention does not mind, and what is written back has its place.
        gate, index = ranked.topk(k, dim=1)
        before = tokens.gather(patches, index)
    after = model.step(torch.cat([x[:, :1], before], dim=1), step, tokens.hide(gate >= 0))
    updated = blend(before, after[:, 1:], gate.clamp(min=0))
    if index is not None:
        updated = tokens.write_back(patches, index, updated)
    return torch.cat([after[:, :1], updated], dim=1)


# An operator of its own without an implementation: a trace holds it whole, and the exporter puts branches in its place.
@torch.library.custom_op("edgevit::smallest_rung", mutates_args=())
def _smallest_rung(x: Tensor, ranked: Tensor, step: int) -> Tensor:
    raise AssertionError("this operator is there to be traced")


@_smallest_rung.register_fake
def _(x: Tensor, ranked: Tensor, step: int) -> Tensor:
    return torch.empty_like(x)
