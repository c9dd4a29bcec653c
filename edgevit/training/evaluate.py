"""Running a model over labelled pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from edgevit.metrics import Evaluation, evaluate
from edgevit.preprocess import Preprocess
from edgevit.training.data import LabelledImages
from edgevit.training.outcome import outcome

__all__ = ["Forward", "evaluate_model", "run_all"]

_M = TypeVar("_M", bound=nn.Module)
_O = TypeVar("_O")


class _Answer(Protocol):
    """The outcome of a pass, whatever else it tells."""

    @property
    def logits(self) -> Tensor: ...


# (model, B x 3 x H x W) to the outcome of one pass under some rule
Forward = Callable[[Any, Tensor], _Answer]


def run_all(
    model: _M, images: LabelledImages, preprocess: Preprocess, forward: Callable[[_M, Tensor], _O], batch: int = 64
) -> list[_O]:
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
    model: nn.Module, images: LabelledImages, preprocess: Preprocess, forward: Forward = outcome
) -> Evaluation:
    """Accuracy and the rest of a model on labelled pictures, under the rule of `forward`.

    Args:
        model: as many classes as the pictures have labels, in the same order.
        images: at least one.
        preprocess: of the model.
        forward: how a pass is made; by default as the model is trained.

    Raises:
        InputError: the pictures have another number of labels than the model has classes, or an output is not finite.
    """
    logits = torch.cat([answer.logits for answer in run_all(model, images, preprocess, forward)])
    return evaluate(images.targets, torch.softmax(logits.double(), dim=-1).cpu().numpy(), images.labels)
