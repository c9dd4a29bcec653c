"""What a model is trained on beside the task.

A router: terms that make its choices sharp, its logits tame, its cost bounded. From Mixture-of-Recursions (Bae et al.
2025, arXiv 2507.10524, section 2.2 and appendix), but for the budget term, which is ours.
A learned keep mask: DynamicViT (Rao et al. 2021, arXiv 2106.02034, section 3.3), without the term that compares the
tokens themselves with the teacher's. The information bottleneck is in `bottleneck.py`.
B images, N patches, R steps, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edgevit.errors import InputError
from edgevit.models.recursive import RecursiveConfig
from edgevit.models.routing import Choice, Routed

__all__ = [
    "ReducedLoss",
    "RouterLoss",
    "balance_term",
    "budget_term",
    "choice_term",
    "keep_term",
    "router_loss",
    "teacher_term",
    "z_term",
]


@dataclass(frozen=True, kw_only=True)
class RouterLoss:
    """Weights of the router's terms.

    Attributes:
        choice: expert choice - cross-entropy of the raw logit against having been taken.
        balance: token choice - every depth equally used. Off by default: it forbids pictures to differ.
        z: token choice - the square of the log-sum-exp of the logits.
        budget: token choice - mean extra steps a patch takes, against those of the capacities.
    """

    choice: float = 0.01
    balance: float = 0.0
    z: float = 1e-4
    budget: float = 1.0

    def __post_init__(self) -> None:
        for name in ("choice", "balance", "z", "budget"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"the weight of the router's {name} loss is {getattr(self, name)}; give 0 or more")


@dataclass(frozen=True, kw_only=True)
class ReducedLoss:
    """Weights of a reduced model's terms.

    Attributes:
        keep: dynamicvit - squared difference between the share of tokens a mask lets through and that of the schedule.
        teacher: divergence from the answers of a teacher, where there is one.
    """

    keep: float = 2.0
    teacher: float = 0.5

    def __post_init__(self) -> None:
        for name in ("keep", "teacher"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"the weight of the {name} loss is {getattr(self, name)}; give 0 or more")


def router_loss(routed: Routed, config: RecursiveConfig, weights: RouterLoss) -> Tensor:
    """The weighted sum of the terms that fit the router, a scalar."""
    if config.router == "expert_choice":
        return weights.choice * torch.stack([choice_term(choice) for choice in routed.choices]).sum()
    if config.router == "token_choice":
        logits = routed.choices[0].logits
        return (
            weights.balance * balance_term(logits)
            + weights.z * z_term(logits)
            + weights.budget * budget_term(logits, sum(config.capacities[1:]))
        )
    return routed.logits.new_zeros(())


def choice_term(choice: Choice) -> Tensor:
    """Binary cross-entropy of raw logits B x n with having been chosen, averaged over the candidates.

    There is at least one: it is asked of the pass a model is trained with, where no step is empty.
    """
    loss = functional.binary_cross_entropy_with_logits(choice.logits, choice.chosen.to(choice.logits), reduction="none")
    return loss.mean() if choice.candidates is None else loss[choice.candidates].mean()


def balance_term(logits: Tensor) -> Tensor:
    """Sum over depths of mean probability times R x share of tokens routed there; 1 when even. Logits B x N x R."""
    depths = logits.shape[-1]
    probability = torch.softmax(logits, dim=-1).mean(dim=(0, 1))
    share = functional.one_hot(logits.argmax(dim=-1), depths).to(logits).mean(dim=(0, 1))
    return (probability * share * depths).sum()


def z_term(logits: Tensor) -> Tensor:
    """Mean squared log-sum-exp over depths; logits B x N x R."""
    return torch.logsumexp(logits, dim=-1).square().mean()


def budget_term(logits: Tensor, extra_steps: float) -> Tensor:
    """Squared relative error of the mean number of steps after the first; logits B x N x R.

    The count is the real one, of hard decisions, over the whole batch, so that one picture may take more than
    another; its gradient is that of the expected count (a straight-through estimate).
    """
    later = torch.arange(logits.shape[-1], device=logits.device, dtype=logits.dtype)
    expected = (torch.softmax(logits, dim=-1) * later).sum(dim=-1)
    taken = logits.argmax(dim=-1).to(logits)
    mean = (taken + expected - expected.detach()).mean()
    return (mean / extra_steps - 1).square()


def keep_term(shares: Sequence[Tensor], wanted: Sequence[float]) -> Tensor:
    """Mean over masks and pictures of the squared difference of the shares kept, B for each mask, from those wanted."""
    return torch.stack([(share - goal).square().mean() for share, goal in zip(shares, wanted, strict=True)]).mean()


def teacher_term(logits: Tensor, teacher: Tensor) -> Tensor:
    """Mean over pictures of the divergence KL(teacher || ours) of the class probabilities; both B x C."""
    return functional.kl_div(
        torch.log_softmax(logits, dim=-1), torch.log_softmax(teacher, dim=-1), reduction="batchmean", log_target=True
    )
