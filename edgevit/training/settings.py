"""What a training run is asked to do."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from edgevit.errors import InputError
from edgevit.training.augment import Augmentation
from edgevit.training.losses import ReducedLoss, RouterLoss

__all__ = ["TrainSettings"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of one run.

    On CPUs, two runs with equal settings and data and as many threads give the same weights, bit by bit. On a GPU
    some sums are taken in no fixed order, and the last digits differ.

    Attributes:
        epochs: passes over the training pictures.
        batch_size: pictures a step, over all processes.
        learning_rate: peak rate of AdamW, reached after the warm-up and then falling to 0 by a cosine.
        weight_decay: of AdamW, on matrices only.
        warmup_epochs: epochs of linear warm-up, but half of the run at most.
        label_smoothing: share of the target spread over all classes.
        class_weight_power: class weights are frequency to the minus this power, of mean 1; 0 for none.
        ema_decay: decay of the averaged weights, which are the ones kept.
        clip_norm: largest norm of the gradient.
        seed: of initial weights, order and augmentation; 0 or more.
        val_every: epochs between validations; the last is always validated.
        augmentation: random changes of the pictures.
        router_loss: weights of the router's terms.
        shared_budget: expert choice - whether the pictures of a batch share the patches of each step, so that one may
            take more than another, as it may when the model is run by threshold; several times slower to train.
        layer_decay: the rate of a layer is this times that of the layer above; the head, reducers and routers have the
            full one. Above 0 and at most 1, which makes all rates equal.
        freeze_stem: whether everything before the first block stays as it is.
        ib_weight: of the information bottleneck of a reduced model's features; None for 0.1 where tokens are merged by
            learned masks (ltm) and 0 elsewhere.
        ib_after: share of the epochs that is done before the bottleneck counts.
        reduced_loss: weights of the other terms of a reduced model.
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
    shared_budget: bool = False
    layer_decay: float = 1.0
    freeze_stem: bool = False
    ib_weight: float | None = None
    ib_after: float = 0.3
    reduced_loss: ReducedLoss = field(default_factory=ReducedLoss)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "val_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 or more")
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; give a number above 0")
        for name in ("seed", "weight_decay", "warmup_epochs", "class_weight_power"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more")
        for name in ("label_smoothing", "ema_decay", "ib_after"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more and below 1")
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"layer_decay is {self.layer_decay}; give a number above 0 and at most 1, such as 0.75")
        if self.ib_weight is not None and not 0 <= self.ib_weight < math.inf:
            raise InputError(f"ib_weight is {self.ib_weight}; give 0 or more")
