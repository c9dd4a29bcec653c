"""The routing modes: ways to put the parts of a recursive ViT together that give one answer.

B images, N patches (or what an early merge leaves of them: depth and counts are of tokens then), R steps, D channels.
The update of an active patch is x + w (f(x) - x), w the gate, none at the first step; selection is nested; CLS goes
through every step ungated. The gate of expert choice is the sigmoid of the logit it selects by; that of token choice is
the share of its softmax on depths that need the step, which for two depths is the sigmoid of their difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from edgevit.errors import InputError
from edgevit.models import tokens
from edgevit.models.recursive import RecursiveViT
from edgevit.spec import Selection

__all__ = [
    "Choice",
    "Routed",
    "Step",
    "blend",
    "reference",
    "route_by",
    "route_dense",
    "route_mask",
    "route_shared",
    "route_topk",
]

_Rule = Selection | Literal["shared"]


class Choice(NamedTuple):
    """What a router decided before one step, over the n tokens it was shown."""

    logits: Tensor  # B x n raw router logits; token choice: B x N x R, the same at every step
    candidates: Tensor | None  # B x n bool: active one step before; None where all n were
    chosen: Tensor  # B x n bool


class Step(NamedTuple):
    """What a step is taken with."""

    x: Tensor  # B x (1 + N) x D
    active: Tensor  # B x N bool
    active_count: Tensor  # B int32
    gate: Tensor  # B x N
    number: int  # 0-based


class Routed(NamedTuple):
    """The outcome of one forward pass."""

    logits: Tensor  # B x C
    depth: Tensor  # B x N int32: steps each patch took part in, 1 to R
    counts: Tensor  # B x R int32: patches active at each step
    choices: tuple[Choice, ...]  # one for each step after the first
    assignment: Tensor | None = None  # B x N int32: the token that each patch is part of; None where none were merged


def _routed(
    logits: Tensor, depth: Tensor, counts: list[Tensor], choices: list[Choice], origin: Tensor | None
) -> Routed:
    assignment = None if origin is None else origin.to(torch.int32)
    return Routed(logits, depth, torch.stack(counts, dim=1), tuple(choices), assignment)


def _counts(depth: Tensor, steps: int) -> list[Tensor]:
    """B int32 for each step: the patches whose depth, B x N, goes beyond it."""
    return [(depth > r).sum(dim=1, dtype=torch.int32) for r in range(steps)]


def blend(before: Tensor, after: Tensor, gate: Tensor) -> Tensor:
    """x + w (f(x) - x): B x n x D twice and the gate B x n."""
    return before + gate[..., None] * (after - before)


def route_dense(model: RecursiveViT, image: Tensor) -> Routed:
    """Every token, every step: exact for models without a router."""
    x, origin = model.enter(image)
    for r in range(model.config.recursions):
        x = model.step(x, r)
    depth = torch.full((x.shape[0], x.shape[1] - 1), model.config.recursions, dtype=torch.int32, device=x.device)
    counts = _counts(depth, model.config.recursions)
    return _routed(model.readout(x[:, :1], x[:, 1:]), depth, counts, [], origin)


def route_mask(model: RecursiveViT, image: Tensor, selection: Selection | None = None) -> Routed:
    """All tokens computed at every step, finished ones frozen and hidden from attention: the reference.

    Args:
        model: a model with a router.
        image: B x 3 x H x W.
        selection: the rule of an expert-choice router, `top-k` by default; None for token choice.

    Raises:
        InputError: `threshold` without calibrated thresholds.
    """
    return _masked(model, image, selection)


def _masked(model: RecursiveViT, image: Tensor, rule: _Rule | None) -> Routed:
    def run(step: Step) -> Tensor:
        after = model.step(step.x, step.number, tokens.hide(step.active))
        patches = step.x[:, 1:]
        patches = torch.where(step.active[..., None], blend(patches, after[:, 1:], step.gate), patches)
        return torch.cat([after[:, :1], patches], dim=1)

    return route_by(model, image, rule, run)


def route_shared(model: RecursiveViT, image: Tensor) -> Routed:
    """Expert choice with one budget for the whole batch: step r takes the B k_r best patches, wherever they are.

    What a model is trained with that is to be run by threshold: one picture takes more patches than another, the mean
    is that of the capacities, and a threshold calibrated on many pictures takes the same ones.
    """
    return _masked(model, image, "shared")


def route_by(
    model: RecursiveViT,
    image: Tensor,
    rule: _Rule | None,
    run: Callable[[Step], Tensor],
) -> Routed:
    """Decide which tokens are active at each step, and leave to `run` how the step is taken.

    Args:
        model: a model with a router.
        image: B x 3 x H x W.
        rule: the one of an expert-choice router, `top-k` by default; None for token choice.
        run: a step to x after it: CLS and the active patches updated, the others as they were.

    Raises:
        InputError: `threshold` without calibrated thresholds.
    """
    config = model.config
    x, origin = model.enter(image)
    x = model.step(x, 0)
    active = torch.ones(x.shape[0], x.shape[1] - 1, dtype=torch.bool, device=x.device)
    depth = active.to(torch.int32)
    counts = [depth.sum(dim=1, dtype=torch.int32)]
    choices: list[Choice] = []
    plan = model.choose_depth(x[:, 1:]) if config.router == "token_choice" else None
    for r in range(1, config.recursions):
        if plan is not None:
            logits = plan
            # The tail of the softmax from this step on: 1 at the first step, and never growing after it.
            gate = torch.softmax(plan, dim=-1)[..., r:].sum(dim=-1)
            chosen = active & (plan.argmax(dim=-1) >= r)
        else:
            logits = model.score(x[:, 1:], r)
            gate = torch.sigmoid(logits)
            chosen = active & _expert_choice(model, logits, active, r, rule or "top-k")
        choices.append(Choice(logits, active, chosen))
        active = chosen
        taken = active.to(torch.int32)
        counts.append(taken.sum(dim=1, dtype=torch.int32))
        x = run(Step(x, active, counts[-1], gate, r))
        depth = depth + taken
    return _routed(model.readout(x[:, :1], x[:, 1:]), depth, counts, choices, origin)


def _expert_choice(model: RecursiveViT, logits: Tensor, active: Tensor, step: int, rule: _Rule) -> Tensor:
    """B x N router logits and the candidates B x N to the chosen B x N bool."""
    config = model.config
    if rule == "threshold":
        if config.thresholds is None:
            raise InputError("this model has no thresholds; calibrate them on a folder first, or use --selection top-k")
        return logits > config.thresholds[step - 1]
    below_all = torch.finfo(logits.dtype).min
    scores = torch.where(active, logits, below_all)
    if rule == "shared":
        scores = scores.reshape(1, -1)
    best = tokens.lowest_index_top_k(scores, config.budget[step] * (logits.shape[0] // scores.shape[0]))
    return tokens.membership(best, scores.shape[1]).reshape(logits.shape)


def route_topk(model: RecursiveViT, image: Tensor) -> Routed:
    """Step r gathers its k_r tokens, runs on those alone, and writes back where somebody reads the patches.

    Selection is nested, so a step needs only the tokens of the step before: the sequence shrinks from step to
    step and is unwound once, at the end.
    """
    config = model.config
    x, origin = model.enter(image)
    x = model.step(x, 0)
    cls, patches = x[:, :1], x[:, 1:]
    position = torch.arange(config.tokens, device=x.device).expand(x.shape[0], -1)
    depth = torch.ones_like(position, dtype=torch.int32)
    choices: list[Choice] = []
    wider: list[tuple[Tensor, Tensor]] = []
    for r in range(1, config.recursions):
        logits = model.score(patches, r)
        index = tokens.lowest_index_top_k(logits, config.budget[r])
        choices.append(Choice(logits, None, tokens.membership(index, logits.shape[1])))
        wider.append((patches, index))
        before = tokens.gather(patches, index)
        gate = torch.sigmoid(tokens.gather(logits, index))
        after = model.step(torch.cat([cls, before], dim=1), r)
        cls, patches = after[:, :1], blend(before, after[:, 1:], gate)
        position = tokens.gather(position, index)
        depth = depth.scatter(1, position, r + 1)
    if model.reads_patches:
        for all_patches, index in reversed(wider):
            patches = tokens.write_back(all_patches, index, patches)
    return _routed(model.readout(cls, patches), depth, _counts(depth, config.recursions), choices, origin)


def reference(model: RecursiveViT, image: Tensor) -> Routed:
    """The pass a model is trained with: gathered top-k, masked token choice, or every token."""
    if model.config.router == "expert_choice":
        return route_topk(model, image)
    if model.config.router == "token_choice":
        return route_mask(model, image)
    return route_dense(model, image)
