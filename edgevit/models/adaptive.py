"""Routing that follows the picture: each step runs in the smallest of a few static token counts that holds its tokens.

Such a count is a rung, the counts of a step are its ladder. B images, N patches, D channels, K patches of a rung. One
rung serves the whole batch, that of the image with the most active patches: the graph branches once a step, and an
image alone is the case that counts on a line.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edgevit.models import tokens
from edgevit.models.recursive import RecursiveViT
from edgevit.models.routing import Routed, Step, blend, route_by
from edgevit.spec import Selection

__all__ = ["default_rungs", "route_adaptive", "step_in_rung"]

# Ranks beside the gates, which are 0 to 1: CLS before every patch, an inactive patch behind every active one.
_CLS_RANK = 2.0
_INACTIVE = -1.0


def default_rungs(patches: int) -> tuple[int, ...]:
    """The rungs of a step when nothing is known of the pictures: 0, N/16, N/4 and N.

    A factor of four from rung to rung bounds what is wasted on any count by that factor with the fewest rungs, and they
    are the capacities that the top-k models here are trained with. 0 because a picture without a defect leaves nothing
    to look at again.
    """
    return tuple(sorted({0, patches // 16, patches // 4, patches}))


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

    def run(step: Step) -> Tensor:
        r = step.number
        ranks = functional.pad(torch.where(step.active, step.gate, _INACTIVE), (1, 0), value=_CLS_RANK)
        cls_alone = r == model.config.recursions - 1 and not model.reads_patches
        if torch.compiler.is_exporting():
            traced: Tensor = _smallest_rung(step.x, ranks, step.active_count, r, cls_alone)
            return traced
        most = int(step.active_count.max())
        after = step_in_rung(model, step.x, ranks, r, min(k for k in budgets[r - 1] if k >= most))
        return after[:, :1] if cls_alone else after

    return route_by(model, image, selection, run)


def step_in_rung(model: RecursiveViT, x: Tensor, ranks: Tensor, step: int, k: int) -> Tensor:
    """One step over CLS and `k` patches: the torch form of what the exporter builds for each rung.

    A rung that holds more patches than are active fills up with others, which are hidden from attention and keep what
    they were: their gate is 0.

    Args:
        model: a model with a router.
        x: B x (1 + N) x D.
        ranks: B x (1 + N): `_CLS_RANK`, the gate of each active patch, `_INACTIVE` for the others; at most `k` active.
        step: 0-based.
        k: patches of the rung, 0 to N.

    Returns:
        B x (1 + N) x D: CLS and the active patches updated.
    """
    best, index = ranks.topk(1 + k, dim=1)  # in the order of rank: attention does not mind, and each has its place
    before = tokens.gather(x, index)
    after = model.step(before, step, tokens.hide(best[:, 1:] >= 0))
    return tokens.write_back(x, index, blend(before, after, best.clamp(0, 1)))


# An operator of its own without an implementation: a trace holds it whole, and the exporter puts branches in its place.
@torch.library.custom_op("edgevit::smallest_rung", mutates_args=())
def _smallest_rung(x: Tensor, ranks: Tensor, count: Tensor, step: int, cls_alone: bool) -> Tensor:
    raise AssertionError("this operator is there to be traced")


@_smallest_rung.register_fake
def _(x: Tensor, ranks: Tensor, count: Tensor, step: int, cls_alone: bool) -> Tensor:
    return torch.empty_like(x[:, :1] if cls_alone else x)
