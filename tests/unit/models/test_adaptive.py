from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.models import adaptive
from edgevit.models.adaptive import route_adaptive, step_in_rung
from edgevit.models.recursive import EarlyMerge, RecursiveConfig, RecursiveViT
from edgevit.models.routing import Routed, route_mask

TINY = RecursiveConfig(
    image_size=8, patch_size=2, classes=3, width=8, heads=2, depth=2, recursions=3, capacities=(1.0, 0.5, 0.25),
    thresholds=(0.2, -0.1), pool="cls+mean", per_step_norm=True,
)  # fmt: skip
TOKEN_CHOICE = replace(TINY, router="token_choice", thresholds=None)
LADDER = ((0, 1, 4, 16), (0, 2, 16))


def model_of(config: RecursiveConfig, seed: int = 0) -> RecursiveViT:
    """Weights so large that every patch differs and a wrong token shows in the logits."""
    torch.manual_seed(seed)
    model = RecursiveViT(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def pictures(batch: int, seed: int) -> Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def assert_same(routed: Routed, other: Routed) -> None:
    assert routed.depth.tolist() == other.depth.tolist()
    assert routed.counts.tolist() == other.counts.tolist()
    torch.testing.assert_close(routed.logits, other.logits, atol=1e-5, rtol=1e-5)


@given(
    st.integers(0, 99),
    st.integers(1, 3),
    st.lists(st.floats(-4, 4), min_size=2, max_size=2),
    st.lists(st.sets(st.integers(0, 15), max_size=3), min_size=2, max_size=2),
    st.sampled_from(["cls", "mean", "cls+mean"]),
)
@settings(deadline=None, max_examples=60)
def test_any_ladder_gives_the_answer_of_mask(
    seed: int, batch: int, thresholds: list[float], rungs: list[set[int]], pool: Any
) -> None:
    model = model_of(replace(TINY, thresholds=tuple(thresholds), pool=pool), seed)
    image = pictures(batch, seed)
    budgets = tuple((*sorted(step), 16) for step in rungs)
    assert_same(route_adaptive(model, image, budgets, "threshold"), route_mask(model, image, "threshold"))


@given(st.integers(0, 99), st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_token_choice_climbs_the_same_ladder(seed: int, batch: int) -> None:
    model, image = model_of(TOKEN_CHOICE, seed), pictures(batch, seed)
    assert_same(route_adaptive(model, image, LADDER), route_mask(model, image))


def test_tokens_left_by_an_early_merge_climb_it_too() -> None:
    model = model_of(replace(TINY, early_merge=EarlyMerge(method="tome", tokens=12)))
    routed = route_adaptive(model, pictures(2, 1), ((0, 4, 12), (0, 4, 12)), "threshold")
    assert_same(routed, route_mask(model, pictures(2, 1), "threshold"))
    assert routed.assignment is not None


def test_the_smallest_rung_that_holds_the_fullest_picture_serves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def spy(model: RecursiveViT, x: Tensor, ranked: Tensor, step: int, k: int) -> Tensor:
        taken.append(k)
        return step_in_rung(model, x, ranked, step, k)

    monkeypatch.setattr(adaptive, "step_in_rung", spy)
    seen = set()
    for seed in range(40):
        taken.clear()
        model = model_of(replace(TINY, thresholds=(1.0 + seed / 20, 0.0)), seed)
        counts = route_adaptive(model, pictures(2, seed), LADDER, "threshold").counts
        most = counts.amax(dim=0).tolist()[1:]
        assert taken == [min(k for k in rungs if k >= n) for rungs, n in zip(LADDER, most, strict=True)]
        seen |= {(step, k) for step, k in enumerate(taken)}
    assert seen == {(step, k) for step, rungs in enumerate(LADDER) for k in rungs}, "every rung is to be entered"


def test_with_no_patch_left_cls_goes_on_alone() -> None:
    model, image = model_of(replace(TINY, thresholds=(1e9, 1e9))), pictures(1, 0)
    x = model.step(model.embed(image), 0)
    cls = model.step(model.step(x[:, :1], 1), 2)
    routed = route_adaptive(model, image, LADDER, "threshold")
    torch.testing.assert_close(routed.logits, model.readout(cls, x[:, 1:]), atol=1e-5, rtol=1e-5)


def test_thresholds_that_were_never_calibrated_are_asked_for() -> None:
    with pytest.raises(InputError, match="no thresholds; calibrate them"):
        route_adaptive(model_of(replace(TINY, thresholds=None)), pictures(1, 0), LADDER, "threshold")
