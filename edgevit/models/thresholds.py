"""Other thresholds for an expert-choice model, whose weights stay as they are."""

from __future__ import annotations

import copy
from dataclasses import replace

from edgevit.models.recursive import RecursiveViT

__all__ = ["even_odds", "with_thresholds"]


def with_thresholds(model: RecursiveViT, thresholds: tuple[float, ...]) -> RecursiveViT:
    """A copy of the model, in eval mode, that takes the patches whose raw router logit exceeds these.

    Args:
        model: an expert-choice model.
        thresholds: one for each step after the first.

    Raises:
        InputError: they are not as many, or not finite.
    """
    calibrated = copy.deepcopy(model).eval()
    calibrated.config = replace(model.config, thresholds=thresholds)
    return calibrated


def even_odds(model: RecursiveViT) -> tuple[float, ...]:
    """The thresholds at which the router finds a patch as likely worth the step as not: logit 0.

    What a router stands for that was trained to tell the chosen patches from the others (Mixture-of-Recursions, the
    auxiliary loss of expert choice) and that nobody has calibrated.
    """
    return (0.0,) * (model.config.recursions - 1)
