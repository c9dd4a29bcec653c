from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch
from torch import nn

from edgevit.errors import InputError
from edgevit.models.architecture import build
from edgevit.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgevit.models.recursive import RecursiveViT, dense_twin
from edgevit.models.reduced_config import ReducedConfig
from edgevit.models.reduction import ReducedAt
from edgevit.spec import Method
from edgevit.training.evaluate import evaluate_model
from edgevit.training.layers_by_name import layers_of, stem_of
from edgevit.training.loop import Progress, train
from edgevit.training.outcome import outcome
from edgevit.training.recipe import parameter_groups
from edgevit.training.settings import TrainSettings
from edgevit.training.trainee import Trainee

DATA = tiny_run.training_set()
DENSE = dense_twin(tiny_run.CONFIG)  # 3 blocks over 16 patches
TWO_EPOCHS = replace(tiny_run.SETTINGS, epochs=2, layer_decay=0.7)
METHODS: tuple[Method, ...] = ("tome", "ltm", "dynamicvit", "evit")


def reduced(method: Method) -> ReducedConfig:
    return ReducedConfig(base=DENSE, method=method, schedule=(ReducedAt(1, 10), ReducedAt(2, 6)))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class _Stop(Exception):
    pass


def stop_in_the_second_epoch(progress: Progress) -> None:
    if progress.epoch == 1:
        raise _Stop


@pytest.mark.parametrize("method", METHODS)
def test_a_reduced_model_is_trained_to_a_checkpoint_that_loads_and_resumes_to_the_same(
    method: Method, tmp_path: Path
) -> None:
    settings = replace(TWO_EPOCHS, ib_weight=0.2, ib_after=0.4)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    evaluation = train(reduced(method), DATA, settings, whole)
    kept = load_checkpoint(whole / "checkpoint.safetensors")
    assert kept.model.config == reduced(method)
    assert evaluate_model(kept.model, DATA.val, kept.preprocess) == evaluation

    torch.manual_seed(99)  # what else is drawn in the process must not matter
    with pytest.raises(_Stop):
        train(reduced(method), DATA, settings, stopped, report=stop_in_the_second_epoch)
    state = torch.get_rng_state()
    train(reduced(method), DATA, settings, stopped, resume=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert content(stopped) == content(whole)


def test_the_bottleneck_belongs_to_the_state_and_counts_when_its_time_has_come(tmp_path: Path) -> None:
    """Its means are taken from the start, so that only its weight makes the second epoch another one."""

    def losses(ib_weight: float, ib_after: float) -> list[float]:
        output, told = tmp_path / f"{ib_weight} {ib_after}", []
        settings = replace(TWO_EPOCHS, ib_weight=ib_weight, ib_after=ib_after, val_every=9)
        train(reduced("ltm"), DATA, settings, output, report=told.append)
        shutil.rmtree(output)
        return [at.loss for at in told if at.val_accuracy is None]

    without, late, early = losses(0.0, 0.0), losses(1.0, 0.5), losses(1.0, 0.0)
    steps = len(without) // 2
    assert late[:steps] == without[:steps]
    assert all(a > b for a, b in zip(late[steps:], without[steps:], strict=True))
    assert early[0] > without[0]


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_all_that_is_learned(method: Method) -> None:
    torch.manual_seed(0)
    model = build(reduced(method))
    trainee = Trainee(model.train(), torch.ones(2), replace(TWO_EPOCHS, ib_weight=0.5, ib_after=0.0))
    images, targets = DATA.train.tensors(DATA.preprocess, torch.arange(8).numpy())
    trainee(images, targets)  # the first batch leaves centres to be pulled to
    trainee(images, targets).backward()
    silent = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.abs().sum()]
    # The keys' bias shifts all logits of a row alike, but shares its parameter with the queries' and the values'.
    assert silent == []


def test_the_information_bottleneck_is_on_where_masks_are_learned_alone() -> None:
    weights = {m: Trainee(build(reduced(m)), torch.ones(2), TWO_EPOCHS).ib_weight for m in METHODS}
    assert weights == {"tome": 0.0, "ltm": 0.1, "dynamicvit": 0.0, "evit": 0.0}
    assert Trainee(build(DENSE), torch.ones(2), TWO_EPOCHS).ib_weight == 0.0
    with pytest.raises(InputError, match=r"ib_weight is for models that reduce tokens \(tome/, ltm/"):
        Trainee(build(DENSE), torch.ones(2), replace(TWO_EPOCHS, ib_weight=0.1))


def test_masks_are_held_to_the_shares_of_the_schedule() -> None:
    torch.manual_seed(0)
    model = build(replace(reduced("dynamicvit"), schedule=(ReducedAt(0, 16), ReducedAt(1, 10), ReducedAt(2, 6))))
    losses = {}
    images, targets = DATA.train.tensors(DATA.preprocess, torch.arange(4).numpy())
    for weight in (0.0, 2.0):
        torch.manual_seed(1)
        settings = replace(TWO_EPOCHS, reduced_loss=replace(TWO_EPOCHS.reduced_loss, keep=weight))
        losses[weight] = float(Trainee(model.train(), torch.ones(2), settings)(images, targets).detach())
    torch.manual_seed(1)
    shares = outcome(model.train(), images).keep_shares
    assert len(shares) == 2, "where every token stays there is no mask"
    goals = (10 / 16, 6 / 16)
    errors = [[(value - goal) ** 2 for value in share.tolist()] for share, goal in zip(shares, goals, strict=True)]
    wanted = sum(sum(row) / 4 for row in errors) / 2
    assert losses[2.0] - losses[0.0] == pytest.approx(2 * wanted, rel=1e-3)


def test_a_teacher_is_followed_and_part_of_the_runs_identity(tmp_path: Path) -> None:
    torch.manual_seed(3)
    teachers = []
    for name in ("a", "b"):
        model = RecursiveViT(DENSE).eval()
        nn.init.normal_(model.head.weight, std=1.0)
        save_checkpoint(tmp_path / name, Checkpoint(model, tiny_run.KINDS, tiny_run.PREPROCESS))
        teachers.append(load_checkpoint(tmp_path / name))
    settings = replace(TWO_EPOCHS, epochs=1)
    train(reduced("evit"), DATA, settings, tmp_path / "alone")
    train(reduced("evit"), DATA, settings, tmp_path / "taught", teacher=teachers[0])
    weights = [
        load_checkpoint(tmp_path / run / "checkpoint.safetensors").model.state_dict() for run in ("alone", "taught")
    ]
    assert not torch.equal(weights[0]["backbone.model.head.weight"], weights[1]["backbone.model.head.weight"])
    assert not any(name.startswith("teacher") for name in weights[1])
    with pytest.raises(InputError, match=r"the run had teacher [0-9a-f]{64}, now it is [0-9a-f]{64}; give the same"):
        train(reduced("evit"), DATA, settings, tmp_path / "taught", teacher=teachers[1], resume=True)
    other = replace(teachers[0], labels=("x", "y"))
    with pytest.raises(InputError, match=r"the teacher has other classes than the run; start from it too \(--init\)"):
        train(reduced("evit"), DATA, settings, tmp_path / "other", teacher=other)


def test_a_frozen_stem_stays_as_it_is_while_the_rest_moves(tmp_path: Path) -> None:
    torch.manual_seed(4)
    initial = dict(build(reduced("ltm")).state_dict())
    settings = replace(TWO_EPOCHS, freeze_stem=True)
    train(reduced("ltm"), DATA, settings, tmp_path, initial={name: value.clone() for name, value in initial.items()})
    kept = load_checkpoint(tmp_path / "checkpoint.safetensors").model.state_dict()
    frozen = set(stem_of(initial))
    assert {"backbone.model.position", "backbone.model.stem.1.running_mean"} <= frozen
    for name, value in initial.items():
        assert torch.equal(kept[name], value) == (name in frozen), name


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_the_rate_falls_from_layer_to_layer_and_reducers_have_all_of_it(decay: float) -> None:
    model = build(reduced("ltm"))
    layers = layers_of(name for name, _ in model.named_parameters())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, 0.3, decay)
    seen = []
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            layer = layers[name]
            below = 0 if layer is None else DENSE.depth + 1 - layer
            assert group["rate_share"] == pytest.approx(decay**below), name
            seen.append(name)
    assert sorted(seen) == sorted(names.values())
    assert {group["rate_share"] for group in groups} == {decay**i for i in range(5)}


def test_the_schedule_of_the_rate_keeps_the_share_of_each_layer(tmp_path: Path) -> None:
    """One step of Adam is as long as the rate, so that the first one tells every layer's."""
    settings = replace(TWO_EPOCHS, epochs=1, batch_size=18, layer_decay=0.5, ema_decay=0.0, weight_decay=0.0)
    torch.manual_seed(5)
    initial = {name: value.clone() for name, value in build(DENSE).state_dict().items()}
    train(DENSE, DATA, settings, tmp_path, initial={name: value.clone() for name, value in initial.items()})
    kept = load_checkpoint(tmp_path / "checkpoint.safetensors").model.state_dict()
    steps = {
        name: float((kept[name] - initial[name]).abs().max())
        for name in ("position", "blocks.0.attention.out.weight", "blocks.2.attention.out.weight", "head.weight")
    }
    assert steps["head.weight"] > 0
    for name, below in (("position", 4), ("blocks.0.attention.out.weight", 3), ("blocks.2.attention.out.weight", 1)):
        assert steps[name] == pytest.approx(steps["head.weight"] * 0.5**below, rel=0.02), name


@pytest.mark.parametrize(
    "change, line",
    [
        ({"layer_decay": 0.0}, "layer_decay is 0.0; give a number above 0 and at most 1, such as 0.75"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5; give a number above 0 and at most 1, such as 0.75"),
        ({"layer_decay": float("nan")}, "layer_decay is nan; give a number above 0 and at most 1, such as 0.75"),
        ({"ib_weight": -0.1}, "ib_weight is -0.1; give 0 or more"),
        ({"ib_weight": float("inf")}, "ib_weight is inf; give 0 or more"),
        ({"ib_after": 1.0}, "ib_after is 1.0; give 0 or more and below 1"),
    ],
)
def test_settings_of_fine_tuning_out_of_range_are_refused(change: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refusal:
        TrainSettings(**change)
    assert str(refusal.value) == line
