from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.models.routing import Routed, reference, route_dense, route_mask, route_shared, route_topk

TINY = RecursiveConfig(
    image_size=8, patch_size=2, classes=3, width=8, heads=2, depth=2, recursions=3, capacities=(1.0, 0.5, 0.25),
    thresholds=(0.2, -0.1), pool="cls+mean", per_step_norm=True,
)  # fmt: skip
TOKEN_CHOICE = replace(TINY, router="token_choice", thresholds=None)


def model_of(config: RecursiveConfig, seed: int = 0) -> RecursiveViT:
    """Weights so large that every patch differs and a wrong token shows in the logits."""
    torch.manual_seed(seed)
    model = RecursiveViT(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def picture(config: RecursiveConfig, batch: int = 2, seed: int = 1) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, config.image_size, config.image_size, generator=draws)


def assert_same(routed: Routed, other: Routed) -> None:
    """The same tokens at every step, and the same logits but for the order of sums."""
    assert routed.depth.tolist() == other.depth.tolist()
    assert routed.counts.tolist() == other.counts.tolist()
    torch.testing.assert_close(routed.logits, other.logits, atol=1e-5, rtol=1e-5)


# --- a reference that takes one picture and one patch at a time -------------------------------------------------------

# (model, step, patches still going with their vectors, gate logits of step one's plan) to the patches that take the
# step, each with its gate
Decide = Callable[[RecursiveViT, int, dict[int, Tensor]], dict[int, float]]


def slow_route(model: RecursiveViT, image: Tensor, decide: Decide) -> tuple[Tensor, list[int], list[int]]:
    """Logits, depth of each patch and counts for one picture, 3 x H x W: x + w (f(x) - x), patch by patch."""
    x = model.step(model.embed(image[None]), 0)[0]
    cls, patches = x[0], dict(enumerate(x[1:]))
    depth = [1] * len(patches)
    counts = [len(patches)]
    active = dict(patches)
    for step in range(1, model.config.recursions):
        gates = decide(model, step, active)
        after = model.step(torch.stack([cls, *(patches[i] for i in gates)])[None], step)[0]
        for (i, gate), f in zip(gates.items(), after[1:], strict=True):
            patches[i] = patches[i] + gate * (f - patches[i])
            depth[i] += 1
        cls = after[0]
        active = {i: patches[i] for i in gates}
        counts.append(len(active))
    final = torch.stack([patches[i] for i in sorted(patches)])
    return model.readout(cls[None, None], final[None])[0], depth, counts


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def top_k(model: RecursiveViT, step: int, active: dict[int, Tensor]) -> dict[int, float]:
    router = model.routers[step - 1]
    logits = {i: float(router.weight[0] @ x + router.bias[0]) for i, x in active.items()}
    best = sorted(logits, key=lambda i: (-logits[i], i))[: max(1, int(model.config.capacities[step] * 16))]
    return {i: sigmoid(logits[i]) for i in sorted(best)}


def threshold(model: RecursiveViT, step: int, active: dict[int, Tensor]) -> dict[int, float]:
    router = model.routers[step - 1]
    logits = {i: float(router.weight[0] @ x + router.bias[0]) for i, x in active.items()}
    assert model.config.thresholds is not None
    return {i: sigmoid(logit) for i, logit in logits.items() if logit > model.config.thresholds[step - 1]}


class Plan:
    """Token choice: the depth of each patch is settled once, and its gate is the belief in at least that many steps."""

    def __init__(self) -> None:
        self.belief: dict[int, list[float]] = {}

    def __call__(self, model: RecursiveViT, step: int, active: dict[int, Tensor]) -> dict[int, float]:
        if step == 1:
            for i, x in active.items():
                logits = [
                    float(row @ x + b) for row, b in zip(model.routers[0].weight, model.routers[0].bias, strict=True)
                ]
                total = sum(math.exp(value) for value in logits)
                self.belief[i] = [math.exp(value) / total for value in logits]
        deep = [i for i in active if self.belief[i].index(max(self.belief[i])) >= step]
        return {i: sum(self.belief[i][step:]) for i in deep}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sharing", ["cycle", "middle_cycle"])
@pytest.mark.parametrize("pool", ["cls", "mean", "cls+mean"])
@pytest.mark.parametrize("rule", ["top-k", "threshold", "token choice"])
def test_masked_routing_is_what_one_gets_patch_by_patch(rule: str, pool: Any, sharing: Any, seed: int) -> None:
    config = replace(TOKEN_CHOICE if rule == "token choice" else TINY, pool=pool, sharing=sharing)
    model, image = model_of(config, seed), picture(config, batch=2, seed=seed)
    routed = route_mask(model, image, "threshold" if rule == "threshold" else None)
    for b in range(2):
        decide = {"top-k": top_k, "threshold": threshold, "token choice": Plan()}[rule]
        logits, depth, counts = slow_route(model, image[b], decide)
        assert routed.depth[b].tolist() == depth
        assert routed.counts[b].tolist() == counts
        torch.testing.assert_close(routed.logits[b], logits, atol=2e-5, rtol=1e-5)


# --- the modes agree --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("per_step_norm", [False, True])
@pytest.mark.parametrize("sharing", ["cycle", "middle_cycle"])
@pytest.mark.parametrize("pool", ["cls", "mean", "cls+mean"])
def test_gathering_the_best_is_masking_the_rest(pool: Any, sharing: Any, per_step_norm: bool, batch: int) -> None:
    config = replace(TINY, pool=pool, sharing=sharing, per_step_norm=per_step_norm)
    model, image = model_of(config), picture(config, batch)
    assert_same(route_topk(model, image), route_mask(model, image, "top-k"))


schedules = st.lists(st.floats(0.02, 1.0), min_size=1, max_size=4).map(lambda c: (1.0, *sorted(c, reverse=True)))


@given(schedules, st.sampled_from(["patch", "conv"]), st.integers(0, 99), st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_gathering_is_masking_whatever_the_schedule(
    capacities: tuple[float, ...], stem: Any, seed: int, batch: int
) -> None:
    config = replace(TINY, recursions=len(capacities), capacities=capacities, thresholds=None, stem=stem)
    model, image = model_of(config, seed), picture(config, batch, seed)
    routed = route_topk(model, image)
    assert_same(routed, route_mask(model, image, "top-k"))
    assert routed.counts.tolist() == [list(config.budget)] * batch


class Coarse(RecursiveViT):
    """Router logits in coarse steps, so that patches that differ are tied everywhere."""

    def score(self, patches: Tensor, step: int) -> Tensor:
        return torch.round(super().score(patches, step) / 2) * 2


@given(schedules, st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_both_modes_break_ties_alike(capacities: tuple[float, ...], seed: int) -> None:
    config = replace(TINY, recursions=len(capacities), capacities=capacities, thresholds=None)
    model = Coarse(config).eval().requires_grad_(False)
    model.load_state_dict(model_of(config, seed).state_dict())
    image = picture(config, 2, seed)
    assert_same(route_topk(model, image), route_mask(model, image, "top-k"))


@pytest.mark.parametrize("route", [route_topk, route_mask])
def test_of_equal_scores_the_first_patches_go_on(route: Callable[[RecursiveViT, Tensor], Routed]) -> None:
    model = model_of(TINY)
    for router in model.routers:
        nn.init.zeros_(router.weight)
    assert route(model, picture(TINY, 1)).depth.tolist() == [[3] * 4 + [2] * 4 + [1] * 8]


# --- what was decided -------------------------------------------------------------------------------------------------


def assert_consistent(routed: Routed, steps: int) -> None:
    """Depth, counts and choices tell one story, and no patch comes back."""
    assert routed.depth.dtype == routed.counts.dtype == torch.int32
    assert bool(((routed.depth >= 1) & (routed.depth <= steps)).all())
    for r in range(steps):
        assert routed.counts[:, r].tolist() == (routed.depth > r).sum(dim=1).tolist()
    for r, choice in enumerate(routed.choices, start=1):
        assert choice.candidates is not None
        assert torch.equal(choice.candidates, routed.depth >= r)
        assert torch.equal(choice.chosen, routed.depth > r)


@given(st.lists(st.floats(-4, 4), min_size=2, max_size=2), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_a_threshold_takes_every_candidate_above_it_and_no_other(thresholds: list[float], seed: int) -> None:
    model = model_of(replace(TINY, thresholds=tuple(thresholds)), seed)
    routed = route_mask(model, picture(TINY, 2, seed), "threshold")
    assert_consistent(routed, 3)
    for choice, value in zip(routed.choices, thresholds, strict=True):
        assert torch.equal(choice.chosen, choice.candidates & (choice.logits > value))


def test_a_patch_on_the_threshold_stays_behind() -> None:
    model = model_of(replace(TINY, thresholds=(0.5, 0.5)))
    for router in model.routers:
        nn.init.zeros_(router.weight)
        nn.init.constant_(router.bias, 0.5)
    assert route_mask(model, picture(TINY), "threshold").counts.tolist() == [[16, 0, 0]] * 2


@pytest.mark.parametrize("selection", ["top-k", None])
def test_top_k_tells_one_story(selection: Any) -> None:
    routed = route_mask(model_of(TINY), picture(TINY), selection)
    assert_consistent(routed, 3)
    assert routed.counts.tolist() == [[16, 8, 4]] * 2


@pytest.mark.parametrize("seed", range(5))
def test_pictures_that_share_a_budget_take_what_a_threshold_would(seed: int) -> None:
    """The patches above the logit that separates them over the whole batch, step by step."""
    model, images = model_of(TINY, seed), picture(TINY, batch=5, seed=seed)
    shared = route_shared(model, images)
    thresholds = []
    for step, choice in enumerate(shared.choices, start=1):
        taken, left = choice.logits[choice.chosen], choice.logits[choice.candidates & ~choice.chosen]
        assert len(taken) == len(images) * model.config.budget[step]
        assert taken.min() > left.max()
        thresholds.append(float(left.max()))
    model.config = replace(model.config, thresholds=tuple(thresholds))
    assert_same(shared, route_mask(model, images, "threshold"))


def test_a_picture_alone_shares_its_budget_with_nobody() -> None:
    model, image = model_of(TINY), picture(TINY, batch=1)
    assert_same(route_shared(model, image), route_mask(model, image, "top-k"))


def test_pictures_that_share_a_budget_take_different_counts() -> None:
    counts = route_shared(model_of(TINY), picture(TINY, batch=5)).counts
    assert len(set(counts[:, 1].tolist())) > 1


@given(st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_token_choice_goes_as_deep_as_the_largest_logit_says(seed: int) -> None:
    model = model_of(TOKEN_CHOICE, seed)
    routed = route_mask(model, picture(TOKEN_CHOICE, 2, seed))
    assert_consistent(routed, 3)
    for choice in routed.choices:
        assert routed.depth.tolist() == (choice.logits.argmax(dim=-1) + 1).tolist()


def test_gathered_choices_say_which_of_the_shown_tokens_were_taken() -> None:
    routed = route_topk(model_of(TINY), picture(TINY))
    assert [tuple(choice.chosen.shape) for choice in routed.choices] == [(2, 16), (2, 8)]
    assert [choice.chosen.sum(dim=1).tolist() for choice in routed.choices] == [[8, 8], [4, 4]]
    assert all(choice.candidates is None for choice in routed.choices)


@pytest.mark.parametrize("sharing", ["cycle", "middle_cycle"])
def test_a_model_whose_gates_are_open_for_all_is_a_dense_one(sharing: Any) -> None:
    model = model_of(replace(TINY, sharing=sharing, thresholds=(0.0, 0.0)))
    for router in model.routers:
        nn.init.zeros_(router.weight)
        nn.init.constant_(router.bias, 50.0)  # a sigmoid of exactly 1
    image = picture(TINY)
    assert_same(route_mask(model, image, "threshold"), route_dense(model, image))


@pytest.mark.parametrize("pool", ["cls", "mean", "cls+mean"])
def test_with_no_patch_left_cls_goes_on_alone(pool: Any) -> None:
    model = model_of(replace(TINY, pool=pool, thresholds=(1e9, 1e9)))
    image = picture(TINY)
    routed = route_mask(model, image, "threshold")
    x = model.step(model.embed(image), 0)
    cls = model.step(model.step(x[:, :1], 1), 2)
    assert routed.counts.tolist() == [[16, 0, 0]] * 2
    assert routed.depth.tolist() == [[1] * 16] * 2
    torch.testing.assert_close(routed.logits, model.readout(cls, x[:, 1:]), atol=1e-5, rtol=1e-5)


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    for config, selection in ((TINY, "top-k"), (TINY, "threshold"), (TOKEN_CHOICE, None)):
        model, image = model_of(config), picture(config, 3)
        together = route_mask(model, image, selection)  # type: ignore[arg-type]
        for b in range(3):
            alone = route_mask(model, image[b : b + 1], selection)  # type: ignore[arg-type]
            assert together.depth[b].tolist() == alone.depth[0].tolist()
            torch.testing.assert_close(together.logits[b], alone.logits[0], atol=1e-5, rtol=1e-5)


def test_thresholds_that_were_never_calibrated_are_asked_for() -> None:
    model = model_of(replace(TINY, thresholds=None))
    with pytest.raises(InputError, match="no thresholds; calibrate them on a folder first, or use --selection top-k"):
        route_mask(model, picture(TINY), "threshold")


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config, route",
    [(TINY, route_topk), (TOKEN_CHOICE, route_mask), (replace(TINY, router="none", thresholds=None), route_dense)],
)
def test_a_model_is_trained_in_the_mode_of_its_router(config: RecursiveConfig, route: Any) -> None:
    model, image = model_of(config), picture(config)
    routed, wanted = reference(model, image), route(model, image)
    assert torch.equal(routed.logits, wanted.logits)
    assert torch.equal(routed.depth, wanted.depth)


@pytest.mark.parametrize("config", [TINY, TOKEN_CHOICE])
def test_the_task_alone_gives_every_router_a_gradient_through_its_gates(config: RecursiveConfig) -> None:
    model = model_of(config).requires_grad_(True)
    reference(model, picture(config)).logits.square().sum().backward()
    for router in model.routers:
        assert router.weight.grad is not None
        assert router.weight.grad.abs().sum() > 0
