"""Thresholds for expert choice: per step, the raw logit above which patches are taken, set on a folder of pictures."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from edgevit.errors import InputError
from edgevit.models.recursive import RecursiveViT
from edgevit.models.routing import route_mask
from edgevit.preprocess import Preprocess
from edgevit.training.data import LabelledImages
from edgevit.training.evaluate import run_all

__all__ = ["calibrate_thresholds", "separating_threshold"]

_LARGEST = float(torch.finfo(torch.float32).max)


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
    thresholds = [_LARGEST] * (config.recursions - 1)  # a step not yet calibrated takes nothing
    for step in range(1, config.recursions):
        trial = _with_thresholds(model, tuple(thresholds))
        outcomes = run_all(trial, images, preprocess, lambda m, x: route_mask(m, x, "threshold"))
        choices = [outcome.choices[step - 1] for outcome in outcomes]
        logits = torch.cat([choice.logits[choice.candidates] for choice in choices]).cpu()
        thresholds[step - 1] = separating_threshold(logits, round(shares[step] * config.tokens * len(images)))
    return _with_thresholds(model, tuple(thresholds))


def separating_threshold(logits: Tensor, wanted: int) -> float:
    """The number above which lie as near to `wanted` of the logits as can be, but at least one.

    Halfway between two logits, so that rounding on another machine moves no patch across.

    Args:
        logits: n float32, n at least 1, in any order.
        wanted: how many are to be above.
    """
    # How many logits a threshold below each value would let through.
    values, counts = torch.unique(logits, return_counts=True)
    values, taken = values.flip(0), counts.flip(0).cumsum(0)
    last = int((taken - wanted).abs().argmin())
    if last + 1 == len(values):
        return -_LARGEST  # all of them: no patch of any picture is to stay behind
    upper, lower = values[last], values[last + 1]
    middle = lower + (upper - lower) / 2
    return float(middle if middle < upper else lower)


def _with_thresholds(model: RecursiveViT, thresholds: tuple[float, ...]) -> RecursiveViT:
    calibrated = copy.deepcopy(model).eval()
    calibrated.config = replace(model.config, thresholds=thresholds)
    return calibrated
