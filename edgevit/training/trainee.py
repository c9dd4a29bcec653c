"""A model with its loss, so that one call is one forward pass whatever wraps it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from edgevit.models.recursive import RecursiveViT
from edgevit.models.routing import reference
from edgevit.training.losses import RouterLoss, router_loss

__all__ = ["Trainee"]


class Trainee(nn.Module):
    """What is optimised: cross-entropy of the classes, plus the router's terms.

    Args:
        model: on its device.
        weights: of the classes, C float32.
        smoothing: share of the target spread over all classes.
        router: weights of the router's terms.
    """

    class_weights: Tensor

    def __init__(self, model: RecursiveViT, weights: Tensor, smoothing: float, router: RouterLoss) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("class_weights", weights, persistent=False)
        self.smoothing = smoothing
        self.router = router

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """B x 3 x H x W and B classes to the loss, a scalar: the weighted mean over the pictures."""
        routed = reference(self.model, images)
        task = functional.cross_entropy(
            routed.logits, targets, weight=self.class_weights, label_smoothing=self.smoothing
        )
        return task + router_loss(routed, self.model.config, self.router)
