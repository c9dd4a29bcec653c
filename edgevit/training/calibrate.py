"""Thresholds for expert choice: per step, the raw logit above which patches are taken, set on a folder of pictures."""

from __future__ import annotations

from dataclasses import replace

import torch

from edgevit.errors import InputError
from edgevit.models.recursive import RecursiveViT
from edgevit.models.routing import route_mask
from edgevit.models.thresholds import with_thresholds
from edgevit.preprocess import Preprocess
from edgevit.thresholds import NOTHING, separating_threshold
from edgevit.training.data import LabelledImages
from edgevit.training.evaluate import run_all

__all__ = ["calibrate_thresholds"]


def calibrate_thresholds(
    model: RecursiveViT, images: LabelledImages, preprocess: Preprocess, capacities: tuple[float, ...] | None = None
) -> RecursiveViT:
    """A copy of the model whose thresholds meet a mean capacity per step on these pictures.

    Step by step: with the thresholds of the steps before in force, the next one is put halfway between the two
    logits that separate as many candidates as the capacity allows on average. A single picture may take more or
    fewer. Equal logits cannot be separated; then it is as many as come nearest.

    Args:
        model: an expert-choice model.
        images: what to calibrate on, at least one.
        preprocess: of the model.
        capacities: mean share of patches for every step; the model's own by default.

    Raises:
        InputError: the model has no expert-choice router, or the capacities are no schedule for it.
    """
    config = model.config
    if config.router != "expert_choice":
        raise InputError(
            f"thresholds belong to an expert_choice router, this model's is {config.router}; leave calibration out"
        )
    shares = replace(config, capacities=capacities or config.capacities).capacities  # checks them
    thresholds = [NOTHING] * (config.recursions - 1)  # a step not yet calibrated takes nothing
    for step in range(1, config.recursions):
        trial = with_thresholds(model, tuple(thresholds))
        outcomes = run_all(trial, images, preprocess, lambda m, x: route_mask(m, x, "threshold"))
        choices = [outcome.choices[step - 1] for outcome in outcomes]
        logits = torch.cat([choice.logits[choice.candidates] for choice in choices]).cpu()
        thresholds[step - 1] = separating_threshold(logits.numpy(), round(shares[step] * config.tokens * len(images)))
    return with_thresholds(model, tuple(thresholds))
