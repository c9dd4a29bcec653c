"""A checkpoint as something that answers about picture files: what `edgevit eval` asks of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from edgevit.errors import InputError
from edgevit.models.checkpoint import load_checkpoint
from edgevit.models.routing import reference, route_mask
from edgevit.spec import Selection

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
    model, config = stored.model, stored.model.config
    if selection is not None and config.router != "expert_choice":
        raise InputError(
            f"{path}: --selection is for an expert-choice router and this has {config.router}; leave it out"
        )
    if selection == "threshold" and config.thresholds is None:
        raise InputError(f"{path}: has no thresholds; calibrate it with edgevit train --resume --calibrate")

    def answer_all(pictures: Sequence[Path]) -> Iterator[tuple[list[float], list[int]]]:
        for start in range(0, len(pictures), _BATCH):
            images = torch.from_numpy(stored.preprocess.batch(pictures[start : start + _BATCH]))
            with torch.inference_mode():
                routed = route_mask(model, images, selection) if selection else reference(model, images)
            probabilities = torch.softmax(routed.logits.double(), dim=-1).tolist()
            counts = routed.counts.tolist() if config.router != "none" else [[] for _ in probabilities]
            yield from zip(probabilities, counts, strict=True)

    return stored.labels, answer_all
