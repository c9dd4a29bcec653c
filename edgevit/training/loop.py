"""The training loop: an epoch is a pure function of the state before it, so a killed run resumes to the same result."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edgevit import strict_json
from edgevit.errors import InputError
from edgevit.files import atomic_write, cannot_write
from edgevit.metrics import Evaluation
from edgevit.models.architecture import Architecture, build, config_of
from edgevit.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgevit.models.fitting import check_weights
from edgevit.models.recursive import RecursiveViT
from edgevit.training.data import LabelledImages
from edgevit.training.evaluate import evaluate_model
from edgevit.training.fit import TrainingSet, check_fit
from edgevit.training.freeze import freeze_stem, train_unfrozen
from edgevit.training.initial import uncalibrated
from edgevit.training.recipe import class_weights, learning_rate, parameter_groups
from edgevit.training.run_state import EpochRecord, RunParts, read_state, write_state
from edgevit.training.settings import TrainSettings
from edgevit.training.trainee import Trainee
from edgevit.training.world import World, join_world

__all__ = ["Progress", "check_output", "train"]

_STATE = "state.safetensors"
_CHECKPOINT = "checkpoint.safetensors"
_METRICS = "metrics.json"


@dataclass(frozen=True)
class Progress:
    """Where a run is, after each step.

    Attributes:
        epoch: 0 for the first.
        step: 0 for the first of its epoch.
        steps_per_epoch: batches in an epoch.
        loss: mean over the steps of this epoch, of the leading process.
        val_accuracy: of the averaged weights; None but in the report that follows a validation.
    """

    epoch: int
    step: int
    steps_per_epoch: int
    loss: float
    val_accuracy: float | None = None


def train(
    config: Architecture,
    data: TrainingSet,
    settings: TrainSettings,
    output: Path,
    *,
    initial: dict[str, Tensor] | None = None,
    teacher: Checkpoint | None = None,
    resume: bool = False,
    report: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Train, and keep the averaged weights of the last epoch (not of the best: val stays unseen by the choice).

    Writes `state.safetensors` into `output`, at once and after every epoch, and at the end `checkpoint.safetensors` and
    `metrics.json`; a finished run that is resumed keeps the thresholds that its checkpoint has been given since. Under
    torchrun every process calls this with the same arguments, and the first one writes.

    Args:
        config: of the model.
        data: pictures in memory.
        settings: of the run.
        output: folder of the run, made if it is not there.
        initial: weights to start from, by the names of the model's state dict; fresh ones by the seed otherwise.
        teacher: a model of the same classes and preprocessing whose answers are to be met too.
        resume: go on from `output`'s state, to the same result as if never stopped.
        report: called after every step and every validation, on the leading process.

    Returns:
        The evaluation of the kept weights on `data.val`.

    Raises:
        InputError: config, data, initial weights, teacher and settings do not fit each other; `output` holds a run and
            `resume` is not asked; the run to resume had other settings, data, teacher or number of processes, or its
            state is damaged; the loss stops being a number; `checkpoint.safetensors` is there and not this run's; a
            file cannot be written. The last epoch's state is kept.
    """
    check_fit(config, data, teacher)
    with join_world() as world:
        # Every process looks before it builds its part, which waits for the others; only then one of them writes.
        check_output(output, resume)
        return _Run(config, data, settings, output, world, initial, teacher).finish(resume, report)


def check_output(output: Path, resume: bool) -> None:
    """Refuse a folder that holds a run already, or none where one is to be resumed.

    Raises:
        InputError: it is refused.
    """
    held = [name for name in (_STATE, _CHECKPOINT, _METRICS) if (output / name).exists()]
    if resume and _STATE not in held:
        raise InputError(f"{output / _STATE}: nothing to resume; start the run without --resume")
    if held and not resume:
        raise InputError(f"{output}: holds a training run; go on with --resume, or choose another --output")


class _Run:
    """The moving state of one training run."""

    def __init__(
        self,
        config: Architecture,
        data: TrainingSet,
        settings: TrainSettings,
        output: Path,
        world: World,
        initial: dict[str, Tensor] | None,
        teacher: Checkpoint | None,
    ) -> None:
        self.config, self.data, self.settings, self.output, self.world = config, data, settings, output, world
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = build(config)
        if initial is not None:
            check_weights(self.model, initial, "initial weights")
            self.model.load_state_dict(initial)
        if settings.freeze_stem:
            freeze_stem(self.model)
        weights = class_weights(data.train.targets, config.classes, settings.class_weight_power)
        self.trainee = Trainee(self.model, weights, settings, None if teacher is None else teacher.model)
        self.spread = world.spread(self.trainee.to(world.device))
        self.average = AveragedModel(
            self.model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay), use_buffers=True
        )
        groups = parameter_groups(self.model, settings.weight_decay, settings.layer_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        self.parts = RunParts(self.model, self.average, self.trainee.terms, self.optimizer)
        self.history: tuple[EpochRecord, ...] = ()
        # Everything the result depends on, but for the machine.
        self.identity = {
            "config": config,
            "settings": settings,
            "preprocess": data.preprocess,
            "train": _described(data.train),
            "val": _described(data.val),
            "processes": world.size,
            "teacher": None if teacher is None else teacher.sha256,
        }

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.data.train) / self.settings.batch_size)

    def finish(self, resume: bool, report: Callable[[Progress], None] | None) -> Evaluation:
        if resume:
            self.history = read_state(self.output / _STATE, self.parts, self.identity)
        else:
            _make_folder(self.output)
            self._keep()  # finds out before any work whether it can be kept
        for epoch in range(len(self.history), self.settings.epochs):
            self._epoch(epoch, report)
            self._keep()
        result = self._validate()
        if self.world.leads:
            model = self.kept.eval()
            _take_thresholds(self.output / _CHECKPOINT, model)
            save_checkpoint(self.output / _CHECKPOINT, Checkpoint(model, self.data.train.labels, self.data.preprocess))
            atomic_write(self.output / _METRICS, strict_json.encode(self._metrics(result)))
        return result

    def _keep(self) -> None:
        if self.world.leads:
            write_state(self.output / _STATE, self.parts, self.identity, self.history)

    @property
    def kept(self) -> nn.Module:
        model: nn.Module = self.average.module
        return model

    def _epoch(self, epoch: int, report: Callable[[Progress], None] | None) -> None:
        # Models that draw while they train (Gumbel noise, dropped paths) take it from torch's own state.
        with torch.random.fork_rng(devices=[self.world.device] if self.world.device.type == "cuda" else []):
            draws = np.random.SeedSequence([self.settings.seed, epoch, self.world.rank, 1]).generate_state(1)
            torch.manual_seed(int(draws[0]))
            self._seeded_epoch(epoch, report)

    def _seeded_epoch(self, epoch: int, report: Callable[[Progress], None] | None) -> None:
        train_unfrozen(self.model)
        self.trainee.done = epoch / self.settings.epochs
        total = 0.0
        for step, (images, targets) in enumerate(self._batches(epoch)):
            rate = learning_rate(self.settings, epoch + step / self.steps_per_epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["rate_share"]
            loss: Tensor = self.spread(images, targets)
            total += float(loss.detach())
            if not math.isfinite(total):
                raise InputError(
                    f"the loss is no number any more at step {step + 1} of epoch {epoch + 1}; "
                    "train again with a lower --learning-rate"
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
            self.optimizer.step()
            self.world.average_buffers(self.model)
            self.world.average_buffers(self.trainee.terms)
            self.average.update_parameters(self.model)
            _copy_whole_numbers(self.model, self.kept)
            if report and self.world.leads:
                report(Progress(epoch, step, self.steps_per_epoch, total / (step + 1)))
        mean, accuracy = total / self.steps_per_epoch, None
        if (epoch + 1) % self.settings.val_every == 0 or epoch + 1 == self.settings.epochs:
            accuracy = self._validate().accuracy
            if report and self.world.leads:
                report(Progress(epoch, self.steps_per_epoch - 1, self.steps_per_epoch, mean, accuracy))
        self.history += (EpochRecord(epoch + 1, mean, accuracy),)

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of every batch of an epoch; order and augmentation follow from seed and epoch alone."""
        size, world = self.settings.batch_size, self.world
        order = np.random.default_rng([self.settings.seed, epoch]).permutation(len(self.data.train))
        for start in range(0, len(order), size):
            # A batch smaller than the world wraps round, so that every process takes part in every step.
            batch = np.resize(order[start : start + size], max(len(order[start : start + size]), world.size))
            images, targets = self.data.train.tensors(self.data.preprocess, batch[world.rank :: world.size])
            seed = np.random.SeedSequence([self.settings.seed, epoch, start, world.rank]).generate_state(1)
            draws = torch.Generator().manual_seed(int(seed[0]))
            images = self.settings.augmentation(images.to(world.device), draws)
            yield images, targets.to(world.device)

    def _validate(self) -> Evaluation:
        return evaluate_model(self.kept, self.data.val, self.data.preprocess)

    def _metrics(self, result: Evaluation) -> dict[str, Any]:
        return {
            "config": config_of(self.kept),  # with the thresholds of an earlier calibration
            "settings": self.settings,
            "preprocess": self.data.preprocess,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "train_pictures": len(self.data.train),
            "val": result,
            "history": self.history,
            "torch": torch.__version__,
        }


def _copy_whole_numbers(model: nn.Module, average: nn.Module) -> None:
    """Give the average the counts and tables of indices as they are: rounded means of these would be other ones."""
    for ours, averaged in zip(model.buffers(), average.buffers(), strict=True):
        if not ours.is_floating_point():
            averaged.copy_(ours)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def _take_thresholds(path: Path, model: nn.Module) -> None:
    """Take the thresholds of the checkpoint about to be written anew: the one thing in it that training does not make.

    Raises:
        InputError: what lies there is no checkpoint of this very model, and writing would lose it.
    """
    if not path.exists():
        return
    there = load_checkpoint(path).model
    ours, theirs = model.state_dict(), there.state_dict()
    same = uncalibrated(config_of(there)) == uncalibrated(config_of(model))
    if not same or any(not torch.equal(value.cpu(), theirs[name]) for name, value in ours.items()):
        raise InputError(f"{path}: its weights are not this run's; move it away and resume once more")
    if isinstance(model, RecursiveViT) and isinstance(there, RecursiveViT):
        model.config = there.config


def _described(images: LabelledImages) -> dict[str, Any]:
    digest = hashlib.sha256(images.pixels.tobytes() + images.targets.tobytes()).hexdigest()
    return {"labels": images.labels, "pictures": len(images), "sha256": digest}
