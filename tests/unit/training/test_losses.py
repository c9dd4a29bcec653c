from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgevit.errors import InputError
from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.models.routing import Choice, reference
from edgevit.training.losses import (
    ReducedLoss,
    RouterLoss,
    balance_term,
    budget_term,
    choice_term,
    keep_term,
    router_loss,
    teacher_term,
    z_term,
)

CONFIG = RecursiveConfig(
    image_size=8, patch_size=2, classes=3, width=8, heads=2, depth=1, recursions=3, capacities=(1.0, 0.5, 0.25)
)


@st.composite
def logits(draw: st.DrawFn) -> Tensor:
    """B x N x R, in steps that leave no doubt about the largest."""
    batch, patches, depths = draw(st.integers(1, 2)), draw(st.integers(1, 4)), draw(st.integers(2, 4))
    values = st.lists(st.integers(-6, 6), min_size=depths, max_size=depths, unique=True)
    rows = draw(st.lists(values, min_size=batch * patches, max_size=batch * patches))
    return torch.tensor(rows, dtype=torch.float32).reshape(batch, patches, depths) / 2


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def tokens(values: Tensor) -> list[list[float]]:
    rows: list[list[float]] = values.flatten(0, 1).tolist()
    return rows


@given(logits(), st.data())
@settings(deadline=None)
def test_the_choice_term_is_the_cross_entropy_of_being_taken(values: Tensor, data: st.DataObject) -> None:
    scores = values[..., 0]
    flags = st.lists(st.booleans(), min_size=scores.numel(), max_size=scores.numel())
    chosen = torch.tensor(data.draw(flags, label="chosen")).reshape(scores.shape)
    candidates = chosen | torch.tensor(data.draw(flags, label="candidates")).reshape(scores.shape)

    def slow(among: Tensor) -> float:
        terms = [
            -math.log(1 / (1 + math.exp(-s if taken else s)))
            for s, taken, shown in zip(
                scores.flatten().tolist(), chosen.flatten().tolist(), among.flatten().tolist(), strict=True
            )
            if shown
        ]
        return sum(terms) / len(terms)

    everyone = torch.ones_like(chosen)
    assert choice_term(Choice(scores, None, chosen)).item() == pytest.approx(slow(everyone), rel=1e-5, abs=1e-6)
    if candidates.any():
        term = choice_term(Choice(scores, candidates, chosen))
        assert term.item() == pytest.approx(slow(candidates), rel=1e-5, abs=1e-6)


@given(logits())
@settings(deadline=None)
def test_the_balance_term_is_probability_times_load(values: Tensor) -> None:
    rows, depths = tokens(values), values.shape[-1]
    probability = [sum(softmax(row)[d] for row in rows) / len(rows) for d in range(depths)]
    load = [sum(row.index(max(row)) == d for row in rows) / len(rows) for d in range(depths)]
    wanted = sum(depths * p * f for p, f in zip(probability, load, strict=True))
    assert balance_term(values).item() == pytest.approx(wanted, rel=1e-5)


def test_the_balance_term_is_one_when_all_depths_are_used_alike_and_more_when_not() -> None:
    even = 20 * torch.eye(3)[None]
    assert balance_term(even).item() == pytest.approx(1.0)
    assert balance_term(even[:, :1].expand(-1, 3, -1)).item() == pytest.approx(3.0)


@given(logits())
@settings(deadline=None)
def test_the_z_term_is_the_mean_square_of_the_log_of_the_sum(values: Tensor) -> None:
    rows = tokens(values)
    wanted = sum(math.log(sum(math.exp(value) for value in row)) ** 2 for row in rows) / len(rows)
    assert z_term(values).item() == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@given(logits(), st.floats(0.05, 2.0))
@settings(deadline=None)
def test_the_budget_term_counts_the_steps_that_are_really_taken(values: Tensor, extra: float) -> None:
    rows = tokens(values)
    taken = sum(row.index(max(row)) for row in rows) / len(rows)
    assert budget_term(values, extra).item() == pytest.approx((taken / extra - 1) ** 2, rel=1e-4, abs=1e-5)


def test_the_budget_pulls_towards_fewer_steps_above_it_and_more_below() -> None:
    for extra, sign in ((0.1, 1.0), (1.9, -1.0)):
        values = torch.tensor([[[0.0, 0.1, 0.0], [0.2, 0.0, 0.1]]], requires_grad=True)
        budget_term(values, extra).backward()
        assert values.grad is not None
        # The gradient of the logit of the deepest level: positive means that a step of descent makes it rarer.
        assert (values.grad[..., 2].sign() == sign).all()


@pytest.mark.parametrize("router", ["none", "expert_choice", "token_choice"])
def test_the_loss_of_a_router_is_the_weighted_sum_of_its_own_terms(router: str) -> None:
    config = replace(CONFIG, router=router)
    torch.manual_seed(0)
    routed = reference(RecursiveViT(config), torch.randn(2, 3, 8, 8))
    weights = RouterLoss(choice=2.0, balance=3.0, z=5.0, budget=7.0)
    wanted = torch.zeros(())
    if router == "expert_choice":
        wanted = 2 * (choice_term(routed.choices[0]) + choice_term(routed.choices[1]))
    if router == "token_choice":
        plan = routed.choices[0].logits
        wanted = 3 * balance_term(plan) + 5 * z_term(plan) + 7 * budget_term(plan, 0.75)
    torch.testing.assert_close(router_loss(routed, config, weights), wanted)


@pytest.mark.parametrize("router", ["expert_choice", "token_choice"])
def test_every_router_learns_from_its_loss(router: str) -> None:
    model = RecursiveViT(replace(CONFIG, router=router))
    router_loss(reference(model, torch.randn(2, 3, 8, 8)), model.config, RouterLoss()).backward()
    for layer in model.routers:
        assert layer.weight.grad is not None
        assert layer.weight.grad.abs().sum() > 0


def test_a_negative_weight_of_a_term_is_refused() -> None:
    with pytest.raises(InputError) as refusal:
        RouterLoss(z=-1.0)
    assert str(refusal.value) == "the weight of the router's z loss is -1.0; give 0 or more"


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=4), st.integers(0, 99))
def test_keep_is_the_mean_squared_miss_of_masks_and_pictures(rows: list[list[float]], seed: int) -> None:
    goals = torch.rand(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    wanted = sum((value - goal) ** 2 for row, goal in zip(rows, goals, strict=True) for value in row) / (3 * len(rows))
    assert float(keep_term([torch.tensor(row) for row in rows], goals)) == pytest.approx(wanted, abs=1e-6)


@given(logits(), st.integers(0, 99))
def test_a_teacher_is_missed_by_the_divergence_from_its_answers(ours: Tensor, seed: int) -> None:
    student = ours[:, 0]
    teacher = torch.randn(student.shape, generator=torch.Generator().manual_seed(seed))
    wanted = 0.0
    for row, goal in zip(student.tolist(), teacher.tolist(), strict=True):
        wanted += sum(q * math.log(q / p) for p, q in zip(softmax(row), softmax(goal), strict=True)) / len(student)
    assert float(teacher_term(student, teacher)) == pytest.approx(wanted, abs=1e-5)
    assert float(teacher_term(student, student)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["keep", "teacher"])
def test_a_negative_weight_of_a_reduced_models_term_is_refused(name: str) -> None:
    with pytest.raises(InputError) as refusal:
        ReducedLoss(**{name: -1.0})
    assert str(refusal.value) == f"the weight of the {name} loss is -1.0; give 0 or more"
