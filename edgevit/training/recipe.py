"""How weights are stepped: the rate over the run, what decays, what a class weighs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgevit.training.settings import TrainSettings

__all__ = ["class_weights", "learning_rate", "parameter_groups"]


def learning_rate(settings: TrainSettings, epoch: float) -> float:
    """Linear warm-up, then a cosine to zero.

    Args:
        settings: of the run.
        epoch: epochs done, in fractions: 2.5 is the middle of the third.
    """
    warmup = min(settings.warmup_epochs, settings.epochs / 2)
    if epoch < warmup:
        return settings.learning_rate * (epoch + 0.01) / (warmup + 0.01)
    done = (epoch - warmup) / (settings.epochs - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for the optimizer: matrices decay; biases, norms and embeddings of one row do not."""
    decayed = [p for p in model.parameters() if p.ndim > 1 and p.shape[0] > 1]
    rest = [p for p in model.parameters() if not (p.ndim > 1 and p.shape[0] > 1)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def class_weights(targets: np.ndarray, classes: int, power: float) -> Tensor:
    """Frequency to the minus `power`, of mean 1 over the pictures: C float32.

    Args:
        targets: class of each picture, n int64, every class at least once.
        classes: C.
        power: 0 weighs all alike, 1 gives every class the same say.
    """
    count = np.bincount(targets, minlength=classes)
    weight = (count / len(targets)) ** -power
    return torch.tensor(weight * len(targets) / (weight * count).sum(), dtype=torch.float32)
