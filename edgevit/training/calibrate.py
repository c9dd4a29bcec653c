"""Thresholds for expert choice: per step, the raw logit above which patches are taken, set on a folder of pictures."""

from __future__ import annotations

from dataclasses import replace

import torch

from edgevit.errors import InputError
from edgevit.models.recursive import RecursiveViT
from edgevit.models.routing import route_mask
from edgevit.preprocess import Preprocess
from edgevit.training.data import LabelledImages
from edgevit.training.evaluate import route_all

__all__ = ["calibrate_thresholds"]


def calibrate_thresholds(
    model: RecursiveViT, images: LabelledImages, preprocess: Preprocess, capacities: tuple[float, ...] | None = None
) -> RecursiveViT:
    """A copy of the model whose thresholds meet a mean capacity per step on these pictures.

    Step by step: with the thresholds of the steps before in force, the next one is put between the two logits
    that separate as many candidates as the capacity allows on average. A single picture may take more or fewer.

    Args:
        model: an expert-choice model.
        images: what to calibrate on.
        preprocess: of the model.
        capacities: mean share of patches for every step; the model's own by default.

    Raises:
        InputError: the model has no expert-choice router.
    """
    config = model.config
    if config.router != "expert_choice":
        raise InputError(f"thresholds belong to an expert_choice router; this model's is {config.router}")
    capacities = capacities or config.capacities
    # A step not yet calibrated takes nothing: no logit is above the largest number.
    thresholds = [float(torch.finfo(torch.float32).max)] * (config.recursions - 1)
    for step in range(1, config.recursions):
        trial = _with_thresholds(model, tuple(thresholds))
        outcomes = route_all(trial, images, preprocess, lambda m, x: route_mask(m, x, "threshold"))
        choices = [outcome.choices[step - 1] for outcome in outcomes]
        logits = torch.cat([choice.logits[choice.candidates] for choice in choices]).sort(descending=True).values
        wanted = min(round(capacities[step] * config.patches * len(images)), len(logits) - 1)
        thresholds[step - 1] = float((logits[wanted - 1] + logits[wanted]) / 2)
    return _with_thresholds(model, tuple(thresholds))


def _with_thresholds(model: RecursiveViT, thresholds: tuple[float, ...]) -> RecursiveViT:
    copy = RecursiveViT(replace(model.config, thresholds=thresholds)).to(next(model.parameters()).device)
    copy.load_state_dict(model.state_dict())
    return copy.eval()
