"""One forward pass of any model in the form that losses and judges read, so that they need not know the model."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from edgevit.models.recursive import RecursiveViT
from edgevit.models.reduction import ReducedModel
from edgevit.models.routing import Routed, reference, route_shared

__all__ = ["Outcome", "outcome"]


class Outcome(NamedTuple):
    """What came out of one pass; what a kind of model does not have is None or empty."""

    logits: Tensor  # B x C
    features: Tensor | None = None  # B x F: what the head of a reduced model read
    routed: Routed | None = None  # what a router decided
    keep_shares: tuple[Tensor, ...] = ()  # in training: the share of tokens each learned keep mask let through, B each


def outcome(model: nn.Module, images: Tensor, *, shared_budget: bool = False) -> Outcome:
    """B x 3 x H x W through a model as it is trained: a recursive one routed, a reduced one reduced.

    With `shared_budget` the pictures of the batch share the patches of an expert-choice step (`route_shared`).
    """
    if isinstance(model, RecursiveViT):
        shared = shared_budget and model.config.router == "expert_choice"
        routed = route_shared(model, images) if shared else reference(model, images)
        return Outcome(routed.logits, routed=routed if model.config.router != "none" else None)
    if isinstance(model, ReducedModel):
        reduced = model.reduce(images, trace=False)
        return Outcome(reduced.logits, reduced.features, keep_shares=reduced.keep_shares)
    return Outcome(model(images))
