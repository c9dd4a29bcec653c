"""A model with its loss, so that one call is one forward pass whatever wraps it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevit.errors import InputError
from edgevit.models.architecture import Architecture, config_of
from edgevit.models.recursive import RecursiveViT
from edgevit.models.reduced import ReducedViT
from edgevit.models.reduced_config import ReducedConfig
from edgevit.training.bottleneck import Bottleneck
from edgevit.training.losses import keep_term, router_loss, teacher_term
from edgevit.training.outcome import Outcome, outcome
from edgevit.training.settings import TrainSettings

__all__ = ["Trainee"]

_IB_WEIGHT_OF_LTM = 0.1  # that of the published recipe


class Trainee(nn.Module):
    """What is optimised: cross-entropy of the classes, plus the terms that the kind of model has.

    Args:
        model: on the CPU.
        class_weights: C float32.
        settings: the weights of the terms.
        teacher: a model in eval mode whose answers are to be met too; it is not trained.

    Attributes:
        terms: what the terms themselves learn as they go, which belongs to the state of a run.
        done: share of the run's epochs that is done, 0 to 1; whoever trains sets it.

    Raises:
        InputError: there is a weight for the information bottleneck, and the model tells no features.
    """

    class_weights: Tensor

    def __init__(
        self, model: nn.Module, class_weights: Tensor, settings: TrainSettings, teacher: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.teacher = teacher.requires_grad_(False) if teacher is not None else None
        self.settings = settings
        self.done = 0.0
        self.register_buffer("class_weights", class_weights, persistent=False)
        config = config_of(model)
        learned_masks = isinstance(config, ReducedConfig) and config.method == "ltm"
        default = _IB_WEIGHT_OF_LTM if learned_masks else 0.0
        self.ib_weight = default if settings.ib_weight is None else settings.ib_weight
        self.terms = nn.ModuleDict()
        if self.ib_weight:
            self.terms["bottleneck"] = Bottleneck(config.classes, _width_of_features(model))
        self.keep_shares = _keep_shares(config, model)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """B x 3 x H x W and B classes to the loss, a scalar: the weighted mean over the pictures."""
        settings = self.settings
        out = outcome(self.model, images, shared_budget=settings.shared_budget)
        loss = functional.cross_entropy(
            out.logits, targets, weight=self.class_weights, label_smoothing=settings.label_smoothing
        )
        if out.routed is not None and isinstance(self.model, RecursiveViT):
            loss = loss + router_loss(out.routed, self.model.config, settings.router_loss)
        if self.keep_shares:
            loss = loss + settings.reduced_loss.keep * keep_term(out.keep_shares, self.keep_shares)
        if self.teacher is not None:
            with torch.no_grad():
                wanted = outcome(self.teacher, images).logits
            loss = loss + settings.reduced_loss.teacher * teacher_term(out.logits, wanted)
        return loss + self._bottleneck(out, targets) if self.terms else loss

    def _bottleneck(self, out: Outcome, targets: Tensor) -> Tensor:
        """The information bottleneck as it counts by now; its means are taken from the first step on."""
        assert out.features is not None  # found out at the start
        term: Tensor = self.terms["bottleneck"](out.features, targets)
        return term * (self.ib_weight if self.done >= self.settings.ib_after else 0.0)


def _width_of_features(model: nn.Module) -> int:
    """F, by a pass: what a head reads is the backbone's own affair."""
    size, training = config_of(model).image_size, model.training
    with torch.inference_mode():
        features = outcome(model.eval(), torch.zeros(1, 3, size, size)).features
    model.train(training)
    if features is None:
        raise InputError("ib_weight is for models that reduce tokens (tome/, ltm/, evit/, dynamicvit/); leave it out")
    return features.shape[-1]


def _keep_shares(config: Architecture, model: nn.Module) -> tuple[float, ...]:
    """The share of the patches that each learned keep mask is to let through; none for other models."""
    if not isinstance(model, ReducedViT) or not isinstance(config, ReducedConfig) or config.method != "dynamicvit":
        return ()
    rows, columns = model.grid
    # Where every token stays there is no mask.
    return tuple(at.tokens / (rows * columns) for at in config.schedule if str(at.block) in model.reducers)
