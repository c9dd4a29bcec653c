"""What a training run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgevit.errors import InputError
from edgevit.training.augment import Augmentation
from edgevit.training.losses import RouterLoss

__all__ = ["TrainSettings"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of one run; two runs with equal settings and data give equal weights on one machine.

    Attributes:
        epochs: passes over the training pictures.
        batch_size: pictures a step, over all processes.
        learning_rate: peak rate of AdamW, reached after the warm-up and then falling to 0 by a cosine.
        weight_decay: of AdamW, on matrices only.
        warmup_epochs: epochs of linear warm-up.
        label_smoothing: share of the target spread over all classes.
        class_weight_power: class weights are frequency to the minus this power, of mean 1; 0 for none.
        ema_decay: decay of the averaged weights, which are the ones kept.
        clip_norm: largest norm of the gradient.
        seed: of initial weights, order and augmentation.
        val_every: epochs between validations; the last is always validated.
        augmentation: random changes of the pictures.
        router_loss: weights of the router's terms.
    """

    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 5.0
    label_smoothing: float = 0.1
    class_weight_power: float = 0.5
    ema_decay: float = 0.99
    clip_norm: float = 1.0
    seed: int = 0
    val_every: int = 5
    augmentation: Augmentation = field(default_factory=Augmentation)
    router_loss: RouterLoss = field(default_factory=RouterLoss)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "val_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; wanted 1 or more")
        if not self.learning_rate > 0:
            raise InputError(f"learning rate is {self.learning_rate}; wanted above 0")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay is {self.ema_decay}; wanted 0 or more and below 1")
