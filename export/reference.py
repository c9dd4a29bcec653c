"""What the source model answers, in torch and fp32, with how close each of its routing decisions was."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgevit.models.recursive import RecursiveViT
from edgevit.models.reduction import Attended, ReducedModel, Stream
from edgevit.models.routing import Choice, reference, route_mask
from edgevit.parity import Golden
from edgevit.spec import RoutingSpec

__all__ = ["golden_samples"]


def golden_samples(
    module: nn.Module, routing: RoutingSpec | None, names: tuple[str, ...], images: np.ndarray
) -> Golden:
    """Run the source model itself, not its inference form; a routed one as `mask`, the reference of every mode.

    Args:
        module: in eval mode, fp32, on the CPU.
        routing: what the graph does; None without routing.
        names: of the images.
        images: n x 3 x H x W float32.
    """
    image = torch.from_numpy(images)
    with torch.inference_mode():
        if isinstance(module, ReducedModel):
            reduced = module.reduce(image, gaps=True)
            return Golden(
                names, images, reduced.logits.numpy(), assignment=_array(reduced.assignment), gap=_array(reduced.gap)
            )
        if not isinstance(module, RecursiveViT):
            return Golden(names, images, module(image).numpy())
        outcome = reference(module, image) if routing is None else route_mask(module, image, routing.selection)
        merged = {"assignment": _array(outcome.assignment), "gap": _array(_early_gap(module, image))}
    if routing is None:
        return Golden(names, images, outcome.logits.numpy(), **merged)
    margins = [_margin(choice, routing, step) for step, choice in enumerate(outcome.choices, start=1)]
    return Golden(names, images, outcome.logits.numpy(), outcome.depth.numpy(), np.stack(margins, axis=1), **merged)


def _array(values: torch.Tensor | None) -> np.ndarray | None:
    return None if values is None else values.numpy()


def _early_gap(module: RecursiveViT, image: torch.Tensor) -> torch.Tensor | None:
    """How clearly the merge before the first step chose; None without one, or where it chooses nothing."""
    if module.merge is None:
        return None
    x = module.embed(image)
    return module.merge.gap(Stream(x, 1, None), Attended(x, x[:, 1:], None))


def _margin(choice: Choice, routing: RoutingSpec, step: int) -> np.ndarray:
    """How far each candidate's score is from the score that decided, over the spread of all: n x N float32."""
    assert choice.candidates is not None, "the reference runs masked, with its candidates known"
    logits, candidates, chosen = (part.numpy() for part in (choice.logits, choice.candidates, choice.chosen))
    spread = np.ptp(logits.reshape(len(logits), -1), axis=1)
    if routing.router == "token_choice":
        distance = np.abs(logits[..., step:].max(axis=-1) - logits[..., :step].max(axis=-1))
    elif routing.selection == "threshold":
        distance = np.abs(logits - routing.thresholds[step - 1])
    else:
        # A chosen token was decided by the best one left out, and the other way round. Where all candidates are
        # taken nothing was decided, and the distance is infinite.
        best_left = np.where(candidates & ~chosen, logits, -np.inf).max(axis=1, keepdims=True)
        worst_taken = np.where(chosen, logits, np.inf).min(axis=1, keepdims=True)
        distance = np.abs(logits - np.where(chosen, best_left, worst_taken))
    with np.errstate(over="ignore"):  # scores that are all the same have no spread, and no near-ties either
        relative = distance / np.maximum(spread, np.finfo(np.float32).tiny)[:, None]
    return np.where(candidates, relative, np.inf).astype(np.float32)
