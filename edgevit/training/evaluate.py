"""Running a model over labelled pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from edgevit.metrics import Evaluation, evaluate
from edgevit.models.recursive import RecursiveViT
from edgevit.models.routing import Routed, reference
from edgevit.preprocess import Preprocess
from edgevit.training.data import LabelledImages

__all__ = ["Forward", "evaluate_model", "route_all"]

# (model, B x 3 x H x W) to the outcome under one routing mode and rule
Forward = Callable[[RecursiveViT, torch.Tensor], Routed]


def route_all(
    model: RecursiveViT, images: LabelledImages, preprocess: Preprocess, forward: Forward = reference, batch: int = 64
) -> list[Routed]:
    """The outcome of every picture, in batches of `batch`, on the model's device and in eval mode."""
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            outcomes = []
            for start in range(0, len(images), batch):
                index = np.arange(start, min(start + batch, len(images)))
                outcomes.append(forward(model, images.tensors(preprocess, index)[0].to(device)))
            return outcomes
    finally:
        model.train(training)


def evaluate_model(
    model: RecursiveViT, images: LabelledImages, preprocess: Preprocess, forward: Forward = reference
) -> Evaluation:
    """Accuracy and the rest of a model on labelled pictures, under the rule of `forward`.

    Args:
        model: as many classes as the pictures have labels, in the same order.
        images: at least one.
        preprocess: of the model.
        forward: the routing mode and rule; by default what the model is trained with.

    Raises:
        InputError: the pictures have another number of labels than the model has classes, or an output is not finite.
    """
    logits = torch.cat([routed.logits for routed in route_all(model, images, preprocess, forward)])
    return evaluate(images.targets, torch.softmax(logits.double(), dim=-1).cpu().numpy(), images.labels)
