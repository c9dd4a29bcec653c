"""How weights are stepped: the rate over the run, what decays, what a class weighs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgevit.training.layers_by_name import layers_of
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


def parameter_groups(model: nn.Module, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Groups for the optimizer: matrices decay; biases, norms and embeddings of one row do not.

    Args:
        model: what is trained; what takes no gradient is left out.
        weight_decay: of matrices.
        layer_decay: what the rate of a layer is multiplied by from the layer above it to it; see `layers_of`.

    Returns:
        Groups whose `rate_share` is what the learning rate is multiplied by, the largest first, each in two: what
        decays, and the rest.

    Raises:
        InputError: rates are to differ by layer, and the model names none.
    """
    named = list(model.named_parameters())
    layers = dict.fromkeys((name for name, _ in named), None) if layer_decay == 1 else layers_of(n for n, _ in named)
    top = max((layer for layer in layers.values() if layer is not None), default=0)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            layer = layers[name]
            below = 0 if layer is None else top - layer
            flat = not (parameter.ndim > 1 and parameter.shape[0] > 1)
            groups.setdefault((below, flat), []).append(parameter)
    return [
        {"params": groups[below, flat], "weight_decay": 0.0 if flat else weight_decay, "rate_share": layer_decay**below}
        for below, flat in sorted(groups)
    ]


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
