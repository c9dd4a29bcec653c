from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import tiny_run
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgevit.errors import InputError
from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.models.routing import route_mask
from edgevit.training.calibrate import calibrate_thresholds
from edgevit.training.evaluate import run_all

IMAGES = tiny_run.pictures(7, 0)


def model_of(config: RecursiveConfig) -> RecursiveViT:
    torch.manual_seed(0)
    model = RecursiveViT(config)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5)
    return model


def counts(model: RecursiveViT) -> torch.Tensor:
    outcomes = run_all(model, IMAGES, tiny_run.PREPROCESS, lambda m, x: route_mask(m, x, "threshold"))
    return torch.cat([outcome.counts for outcome in outcomes])


schedules = st.lists(st.floats(0.001, 1.0), min_size=1, max_size=3).map(lambda c: (1.0, *sorted(c, reverse=True)))


@given(schedules)
@settings(deadline=None, max_examples=25)
def test_thresholds_meet_the_mean_capacity_on_the_pictures_they_were_set_on(shares: tuple[float, ...]) -> None:
    config = replace(tiny_run.CONFIG, recursions=len(shares), capacities=shares, stem="patch")
    taken = counts(calibrate_thresholds(model_of(config), IMAGES, tiny_run.PREPROCESS))
    for step, share in enumerate(shares):
        wanted = max(1, share * config.patches * len(IMAGES))
        assert abs(int(taken[:, step].sum()) - wanted) <= 1
    assert (taken[:, 1:] <= taken[:, :-1]).all(), "selection is nested"


def test_pictures_may_differ_in_what_they_take() -> None:
    taken = counts(calibrate_thresholds(model_of(tiny_run.CONFIG), IMAGES, tiny_run.PREPROCESS))
    assert len(set(taken[:, 1].tolist())) > 1


def test_other_capacities_than_the_models_own_can_be_asked_for() -> None:
    calibrated = calibrate_thresholds(model_of(tiny_run.CONFIG), IMAGES, tiny_run.PREPROCESS, (1.0, 0.75, 0.125))
    assert counts(calibrated).sum(dim=0).tolist() == [112, 84, 14]
    assert calibrated.config.capacities == tiny_run.CONFIG.capacities


def test_the_model_is_copied_and_keeps_its_weights() -> None:
    model = model_of(tiny_run.CONFIG).train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    calibrated = calibrate_thresholds(model, IMAGES, tiny_run.PREPROCESS)
    assert (model.config.thresholds, model.training, calibrated.training) == (None, True, False)
    assert calibrated.config == replace(tiny_run.CONFIG, thresholds=calibrated.config.thresholds)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in weights.items():
        assert torch.equal(model.state_dict()[name], value)
        assert torch.equal(calibrated.state_dict()[name], value)


def test_a_router_that_cannot_tell_patches_apart_takes_them_all() -> None:
    model = model_of(tiny_run.CONFIG)
    for router in model.routers:
        nn.init.zeros_(router.weight)
    calibrated = calibrate_thresholds(model, IMAGES, tiny_run.PREPROCESS)
    assert counts(calibrated).tolist() == [[16, 16, 16]] * 7


@pytest.mark.parametrize("router", ["token_choice", "none"])
def test_other_routers_have_no_thresholds(router: Any) -> None:
    model = model_of(replace(tiny_run.CONFIG, router=router))
    with pytest.raises(InputError) as refusal:
        calibrate_thresholds(model, IMAGES, tiny_run.PREPROCESS)
    assert str(refusal.value) == (
        f"thresholds belong to an expert_choice router, this model's is {router}; leave calibration out"
    )


@pytest.mark.parametrize("capacities", [(1.0, 0.25, 0.5), (1.0, 0.5), (0.5, 0.5, 0.5)])
def test_capacities_that_are_no_schedule_are_refused(capacities: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="capacit"):
        calibrate_thresholds(model_of(tiny_run.CONFIG), IMAGES, tiny_run.PREPROCESS, capacities)
