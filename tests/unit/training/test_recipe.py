from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgevit.errors import InputError
from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.training.recipe import class_weights, learning_rate, parameter_groups
from edgevit.training.settings import TrainSettings


@given(st.integers(1, 60), st.floats(0, 80))
def test_the_rate_rises_to_its_peak_and_falls_to_zero(epochs: int, warmup: float) -> None:
    settings = TrainSettings(epochs=epochs, warmup_epochs=warmup, learning_rate=0.5)
    rates = [learning_rate(settings, epochs * i / 200) for i in range(201)]
    top = min(warmup, epochs / 2)
    rising = [rate for i, rate in enumerate(rates) if epochs * i / 200 <= top]
    falling = [rate for i, rate in enumerate(rates) if epochs * i / 200 >= top]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert all(0 <= rate <= 0.5 for rate in rates)
    assert learning_rate(settings, top) == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_the_rate_after_the_warmup_is_a_cosine() -> None:
    settings = TrainSettings(epochs=13, warmup_epochs=3.0, learning_rate=1.0)
    assert learning_rate(settings, 5.5) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(settings, 1.5) == pytest.approx(1.51 / 3.01)


def test_matrices_decay_and_nothing_else_does() -> None:
    model = RecursiveViT(RecursiveConfig(image_size=8, patch_size=4, width=8, heads=2, depth=1, stem="conv"))
    decayed, rest = parameter_groups(model, 0.3)
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.3, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    kept = {names[id(parameter)] for parameter in rest["params"]}
    assert kept | {names[id(parameter)] for parameter in decayed["params"]} == set(names.values())
    norms = {name for name, module in model.named_modules() if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d))}
    for name in names.values():
        free = name.endswith("bias") or name.rpartition(".")[0] in norms or name in {"cls", "position"}
        assert (name in kept) == (free or name.startswith("routers"))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.floats(0, 1))
def test_class_weights_are_of_mean_one_over_the_pictures(counts: list[int], power: float) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    weights = class_weights(targets, len(counts), power).numpy()
    assert weights[targets].mean() == pytest.approx(1, rel=1e-5)
    for i, count in enumerate(counts):
        assert weights[i] / weights[0] == pytest.approx((counts[0] / count) ** power, rel=1e-5)


@pytest.mark.parametrize(
    "change, line",
    [
        ({"epochs": 0}, "epochs is 0; give 1 or more"),
        ({"batch_size": 0}, "batch_size is 0; give 1 or more"),
        ({"val_every": 0}, "val_every is 0; give 1 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; give a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; give a number above 0"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0; give a number above 0"),
        ({"seed": -1}, "seed is -1; give 0 or more"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; give 0 or more"),
        ({"warmup_epochs": -1.0}, "warmup_epochs is -1.0; give 0 or more"),
        ({"class_weight_power": -1.0}, "class_weight_power is -1.0; give 0 or more"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; give 0 or more and below 1"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0; give 0 or more and below 1"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refusal:
        TrainSettings(**change)
    assert str(refusal.value) == line
