"""A checkpoint as something that answers about picture files: what `edgevit eval` asks of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.models.checkpoint import load_checkpoint
from edgevit.models.recursive import RecursiveViT
from edgevit.models.routing import route_mask
from edgevit.spec import Selection
from edgevit.training.outcome import Outcome, outcome

__all__ = ["AnswerAll", "answers_of"]

# Pictures to the probability of each label and the patches active at each step (none without a router), in turn.
AnswerAll = Callable[[Sequence[Path]], Iterator[tuple[list[float], list[int]]]]

_BATCH = 32


def answers_of(path: Path, selection: Selection | None = None) -> tuple[tuple[str, ...], AnswerAll]:
    """Load a checkpoint.

    Args:
        path: the checkpoint.
        selection: the rule of an expert-choice router; `top-k` by default.

    Returns:
        Its labels, and what answers.

    Raises:
        InputError: no checkpoint, or one that has no such rule.
    """
    stored = load_checkpoint(path)
    model = stored.model
    if selection is not None:
        _check_selection(selection, model, path)

    def answer_all(pictures: Sequence[Path]) -> Iterator[tuple[list[float], list[int]]]:
        for start in range(0, len(pictures), _BATCH):
            images = torch.from_numpy(stored.preprocess.batch(pictures[start : start + _BATCH]))
            with torch.inference_mode():
                out = outcome(model, images) if selection is None else _selected(model, images, selection)
            probabilities = torch.softmax(out.logits.double(), dim=-1).tolist()
            counts = out.routed.counts.tolist() if out.routed is not None else [[] for _ in probabilities]
            yield from zip(probabilities, counts, strict=True)

    return stored.labels, answer_all


def _check_selection(selection: Selection, model: nn.Module, path: Path) -> None:
    """Refuse a rule that the model has no router for."""
    router = model.config.router if isinstance(model, RecursiveViT) else "none"
    if not isinstance(model, RecursiveViT) or router != "expert_choice":
        raise InputError(f"{path}: --selection is for an expert-choice router and this has {router}; leave it out")
    if selection == "threshold" and model.config.thresholds is None:
        raise InputError(f"{path}: has no thresholds; calibrate it with edgevit train --resume --calibrate")


def _selected(model: nn.Module, images: Tensor, selection: Selection) -> Outcome:
    assert isinstance(model, RecursiveViT)  # `_check_selection` has seen to it
    routed = route_mask(model, images, selection)
    return Outcome(routed.logits, routed=routed)
