from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_run
import torch
from tiny_run import CONFIG, SETTINGS

from edgevit.errors import InputError
from edgevit.metrics import Evaluation
from edgevit.models.checkpoint import load_checkpoint, save_checkpoint
from edgevit.models.recursive import RecursiveConfig, RecursiveViT, dense_twin
from edgevit.models.tensor_file import pack, unpack
from edgevit.training.augment import Augmentation
from edgevit.training.fit import TrainingSet
from edgevit.training.loop import Progress, train
from edgevit.training.settings import TrainSettings

DATA = tiny_run.training_set()
Finished = tuple[Path, Evaluation, list[Progress]]
FILES = {"checkpoint.safetensors", "metrics.json", "state.safetensors"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run that nothing interrupted: its folder, what it returned and what it reported."""
    output, reports = tmp_path_factory.mktemp("runs") / "below" / "finished", []
    return output, train(CONFIG, DATA, SETTINGS, output, report=reports.append), reports


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def refused(call: Callable[[], object], folder: Path) -> str:
    """The one line of a refusal that changes nothing in the folder."""
    before = content(folder)
    with pytest.raises(InputError) as refusal:
        call()
    assert content(folder) == before
    line = str(refusal.value)
    assert "\n" not in line
    return line


# --- the same result --------------------------------------------------------------------------------------------------


def test_a_run_leaves_three_whole_files(finished: Finished) -> None:
    assert set(content(finished[0])) == FILES


def test_the_same_seed_gives_the_same_run_bit_by_bit(finished: Finished, tmp_path: Path) -> None:
    torch.manual_seed(12345)  # what the caller did before must not matter
    state = torch.get_rng_state()
    assert train(CONFIG, DATA, SETTINGS, tmp_path) == finished[1]
    assert content(tmp_path) == content(finished[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_another_seed_gives_another_run(finished: Finished, tmp_path: Path) -> None:
    train(CONFIG, DATA, replace(SETTINGS, seed=1), tmp_path)
    ours, other = (load_checkpoint(folder / "checkpoint.safetensors") for folder in (finished[0], tmp_path))
    assert not torch.equal(ours.model.head.weight, other.model.head.weight)


def test_a_killed_run_goes_on_to_the_same_result(finished: Finished, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    killed = subprocess.run(
        [sys.executable, tiny_run.__file__, output, "die"], capture_output=True, text=True, timeout=600
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert set(content(output)) == {"state.safetensors"}
    assert train(CONFIG, DATA, SETTINGS, output, resume=True) == finished[1]
    assert content(output) == content(finished[0])


def test_a_finished_run_can_be_resumed_and_stays_what_it_is(finished: Finished, tmp_path: Path) -> None:
    output = copied(finished[0], tmp_path / "copy")
    (output / "checkpoint.safetensors").unlink()
    assert train(CONFIG, DATA, SETTINGS, output, resume=True) == finished[1]
    assert content(output) == content(finished[0])


def test_a_checkpoint_that_is_not_the_runs_is_not_written_over(finished: Finished, tmp_path: Path) -> None:
    output = copied(finished[0], tmp_path / "copy")
    other = load_checkpoint(output / "checkpoint.safetensors")
    torch.nn.init.zeros_(other.model.head.bias)
    save_checkpoint(output / "checkpoint.safetensors", other)
    line = refused(lambda: train(CONFIG, DATA, SETTINGS, output, resume=True), output)
    assert line == (
        f"{output / 'checkpoint.safetensors'}: its weights are not this run's; move it away and resume once more"
    )


def test_a_run_killed_before_its_first_epoch_can_be_resumed(finished: Finished, tmp_path: Path) -> None:
    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, DATA, SETTINGS, tmp_path, report=stop)
    train(CONFIG, DATA, SETTINGS, tmp_path, resume=True)
    assert content(tmp_path) == content(finished[0])


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_the_checkpoint_is_usable_alone(finished: Finished) -> None:
    kept = load_checkpoint(finished[0] / "checkpoint.safetensors")
    assert (kept.model.config, kept.labels, kept.preprocess) == (CONFIG, ("plain", "surface_scratch"), DATA.preprocess)


def test_metrics_say_what_was_run_and_how_it_went(finished: Finished) -> None:
    output, evaluation, _ = finished
    metrics = json.loads((output / "metrics.json").read_bytes())
    assert set(metrics) == {
        "config", "settings", "preprocess", "parameters", "train_pictures", "val", "history", "torch",
    }  # fmt: skip
    assert metrics["config"]["capacities"] == [1.0, 0.5, 0.25]
    assert metrics["settings"]["augmentation"]["flip"] is True
    assert metrics["preprocess"]["mean"] == [0.5, 0.5, 0.5]
    assert metrics["parameters"] == sum(p.numel() for p in RecursiveViT(CONFIG).parameters())
    assert metrics["train_pictures"] == 18
    assert metrics["val"] == json.loads(json.dumps(evaluation.to_dict()))
    assert metrics["torch"] == torch.__version__
    assert [record["epoch"] for record in metrics["history"]] == [1, 2, 3]
    validated = [record["val_accuracy"] for record in metrics["history"]]
    assert validated[0] is None, "every second epoch is validated, and the last"
    assert validated[1] is not None
    assert validated[2] == evaluation.accuracy


def test_every_step_and_every_validation_is_reported(finished: Finished) -> None:
    reports = finished[2]
    steps = [(report.epoch, report.step) for report in reports if report.val_accuracy is None]
    assert steps == [(epoch, step) for epoch in range(3) for step in range(3)]
    assert [(report.epoch, report.step) for report in reports if report.val_accuracy is not None] == [(1, 2), (2, 2)]
    assert {report.steps_per_epoch for report in reports} == {3}


@pytest.mark.parametrize(
    "config", [CONFIG, replace(CONFIG, router="token_choice", sharing="middle_cycle"), dense_twin(CONFIG)]
)
def test_training_learns(config: RecursiveConfig, tmp_path: Path) -> None:
    still = Augmentation(flip=False, shift_share=0.0, brightness=0.0, contrast=0.0, noise=0.0)
    losses: list[float] = []
    train(
        config, DATA, replace(SETTINGS, epochs=8, augmentation=still), tmp_path,
        report=lambda progress: losses.append(progress.loss),
    )  # fmt: skip
    assert losses[-1] < 0.9 * losses[0]


def test_what_is_kept_is_the_average_and_not_the_last_step(tmp_path: Path) -> None:
    weights = {}
    for decay in (0.0, 0.9):
        output = tmp_path / str(decay)
        train(CONFIG, DATA, replace(SETTINGS, epochs=1, ema_decay=decay), output)
        weights[decay] = load_checkpoint(output / "checkpoint.safetensors").model.state_dict()
    changed = [name for name, value in weights[0.0].items() if not torch.equal(value, weights[0.9][name])]
    assert "head.weight" in changed
    assert "stem.1.running_mean" in changed, "batch norms are averaged too"


def test_a_run_begins_with_the_weights_it_is_given(tmp_path: Path) -> None:
    torch.manual_seed(7)
    initial = RecursiveViT(CONFIG).state_dict()
    hardly = replace(SETTINGS, epochs=1, learning_rate=1e-12)
    train(CONFIG, DATA, hardly, tmp_path, initial=initial)
    kept = load_checkpoint(tmp_path / "checkpoint.safetensors").model.state_dict()
    for name, value in initial.items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(kept[name], value, atol=1e-6, rtol=0, msg=name)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_folder_that_holds_a_run_is_not_written_over(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"precious")
    assert refused(lambda: train(CONFIG, DATA, SETTINGS, tmp_path), tmp_path) == (
        f"{tmp_path}: holds a training run; go on with --resume, or choose another --output"
    )


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    assert refused(lambda: train(CONFIG, DATA, SETTINGS, tmp_path, resume=True), tmp_path) == (
        f"{tmp_path / 'state.safetensors'}: nothing to resume; start the run without --resume"
    )


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda data: data[: len(data) // 2], "truncated, damaged or no safetensors ("),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "damaged, its content is not what its SHA-256 says; "),
        (lambda data: b"", "truncated, damaged or no safetensors ("),
    ],
)
def test_a_damaged_state_is_refused(
    damage: Callable[[bytes], bytes],
    reason: str,
    finished: Finished,
    tmp_path: Path,
) -> None:
    output = copied(finished[0], tmp_path / "copy")
    state = output / "state.safetensors"
    state.write_bytes(damage(state.read_bytes()))
    line = refused(lambda: train(CONFIG, DATA, SETTINGS, output, resume=True), output)
    assert line.startswith(f"{state}: {reason}")


def test_a_checkpoint_is_no_state(finished: Finished, tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    shutil.copy(finished[0] / "checkpoint.safetensors", state)
    line = refused(lambda: train(CONFIG, DATA, SETTINGS, tmp_path, resume=True), tmp_path)
    assert line == f"{state}: no state of a training run; start again in another --output"


def swapped() -> TrainingSet:
    """The same pictures, labelled the other way round."""
    return replace(DATA, train=replace(DATA.train, targets=1 - DATA.train.targets))


def repainted() -> TrainingSet:
    pixels = DATA.val.pixels.copy()
    pixels[0, 0, 0, 0] ^= 1
    return replace(DATA, val=replace(DATA.val, pixels=pixels))


@pytest.mark.parametrize(
    "config, data, settings, difference",
    [
        (CONFIG, DATA, replace(SETTINGS, batch_size=9), "the run had settings batch_size 8, now it is 9; "),
        (CONFIG, DATA, replace(SETTINGS, epochs=4), "the run had settings epochs 3, now it is 4; "),
        (
            CONFIG,
            DATA,
            replace(SETTINGS, augmentation=Augmentation(noise=0.2)),
            "the run had settings augmentation noise 0.1, now it is 0.2; ",
        ),
        (replace(CONFIG, heads=4), DATA, SETTINGS, "the run had config heads 2, now it is 4; "),
        (replace(CONFIG, width=32), DATA, SETTINGS, "the run had config width 16, now it is 32; "),
        (CONFIG, DATA, replace(SETTINGS, layer_decay=0.5), "the run had settings layer_decay 1.0, now it is 0.5; "),
        (CONFIG, DATA, replace(SETTINGS, freeze_stem=True), "the run had settings freeze_stem False, now it is True; "),
        (CONFIG, swapped(), SETTINGS, "the run had train sha256 "),
        (CONFIG, repainted(), SETTINGS, "the run had val sha256 "),
        (
            CONFIG,
            replace(DATA, preprocess=replace(DATA.preprocess, mean=(0.5, 0.5, 0.4))),
            SETTINGS,
            "the run had preprocess mean [0.5, 0.5, 0.5], now it is [0.5, 0.5, 0.4]; ",
        ),
    ],
)
def test_a_run_is_not_resumed_as_another(
    config: RecursiveConfig,
    data: TrainingSet,
    settings: TrainSettings,
    difference: str,
    finished: Finished,
    tmp_path: Path,
) -> None:
    output = copied(finished[0], tmp_path / "copy")
    line = refused(lambda: train(config, data, settings, output, resume=True), output)
    assert line.startswith(f"{output / 'state.safetensors'}: {difference}")
    assert line.endswith("; give the same, or another --output")


def test_a_run_of_more_processes_is_not_resumed_by_one(finished: Finished, tmp_path: Path) -> None:
    output = copied(finished[0], tmp_path / "copy")
    state = output / "state.safetensors"
    tensors, metadata = unpack(state.read_bytes(), "state")
    metadata["identity"] = metadata["identity"].replace('"processes": 1', '"processes": 2')
    state.write_bytes(pack(tensors, metadata))
    line = refused(lambda: train(CONFIG, DATA, SETTINGS, output, resume=True), output)
    assert line == f"{state}: the run had processes 2, now it is 1; give the same, or another --output"


def test_a_state_from_before_there_were_settings_for_fine_tuning_is_gone_on_with(
    finished: Finished, tmp_path: Path
) -> None:
    output = copied(finished[0], tmp_path / "copy")
    state = output / "state.safetensors"
    tensors, metadata = unpack(state.read_bytes(), "state")
    identity = json.loads(metadata["identity"])
    for name in ("layer_decay", "freeze_stem", "ib_weight", "ib_after", "reduced_loss"):
        del identity["settings"][name]
    del identity["teacher"], identity["config"]["early_merge"]
    state.write_bytes(pack(tensors, {**metadata, "identity": json.dumps(identity)}))
    (output / "checkpoint.safetensors").unlink()
    assert train(CONFIG, DATA, SETTINGS, output, resume=True) == finished[1]
    assert content(output)["checkpoint.safetensors"] == content(finished[0])["checkpoint.safetensors"]
    line = refused(lambda: train(CONFIG, DATA, replace(SETTINGS, layer_decay=0.5), output, resume=True), output)
    assert line == f"{state}: the run had settings layer_decay 1.0, now it is 0.5; give the same, or another --output"


def without_a_class() -> TrainingSet:
    return replace(DATA, val=replace(DATA.val, labels=("plain", "crack")))


@pytest.mark.parametrize(
    "config, data, line",
    [
        (
            replace(CONFIG, image_size=64),
            DATA,
            "preprocessing to 32 x 32 for a model of 64 x 64; give both one size",
        ),
        (replace(CONFIG, classes=3), DATA, "pictures of 2 classes for a model of 3; give both one"),
        (
            CONFIG,
            without_a_class(),
            "training and validation pictures name different classes (crack, surface_scratch); give both the same",
        ),
    ],
)
def test_pictures_that_do_not_fit_the_model_are_refused(
    config: RecursiveConfig, data: TrainingSet, line: str, tmp_path: Path
) -> None:
    assert refused(lambda: train(config, data, SETTINGS, tmp_path), tmp_path) == line


def test_initial_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    initial = RecursiveViT(replace(CONFIG, classes=5)).state_dict()
    with pytest.raises(
        InputError, match=r"initial weights: head.weight has shape \(5, 32\), the model wants \(2, 32\)"
    ):
        train(CONFIG, DATA, SETTINGS, tmp_path / "run", initial=initial)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_found_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    steps: list[Any] = []
    with pytest.raises(InputError, match="file"):
        train(CONFIG, DATA, SETTINGS, tmp_path / "file" / "run", report=steps.append)
    assert not steps


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_the_last_state(
    tmp_path: Path,
) -> None:
    broken = replace(DATA, preprocess=replace(DATA.preprocess, mean=(3e38, -3e38, 3e38), std=(1e-30, 1e-30, 1e-30)))
    with np.errstate(all="ignore"), pytest.raises(InputError) as refusal:
        train(CONFIG, broken, SETTINGS, tmp_path)
    assert str(refusal.value) == (
        "the loss is no number any more at step 1 of epoch 1; train again with a lower --learning-rate"
    )
    assert set(content(tmp_path)) == {"state.safetensors"}
