"""The training loop: an epoch is a pure function of the state before it, so a killed run resumes to the same result."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edgevit import strict_json
from edgevit.errors import InputError
from edgevit.files import atomic_write
from edgevit.metrics import Evaluation
from edgevit.models.checkpoint import Checkpoint, save_checkpoint
from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.models.routing import reference
from edgevit.preprocess import Preprocess
from edgevit.training.data import LabelledImages
from edgevit.training.evaluate import evaluate_model
from edgevit.training.losses import RouterLoss, router_loss
from edgevit.training.settings import TrainSettings
from edgevit.training.world import World, join_world

__all__ = ["Progress", "TrainingSet", "train"]

_STATE = "state.pt"


@dataclass(frozen=True)
class TrainingSet:
    """What is learned from and what is judged on, with the preprocessing both share."""

    train: LabelledImages
    val: LabelledImages
    preprocess: Preprocess


@dataclass(frozen=True)
class Progress:
    """Where a run is, after each step; `val_accuracy` is None but after a validation."""

    epoch: int
    step: int
    steps_per_epoch: int
    loss: float
    val_accuracy: float | None = None


class _Trainee(nn.Module):
    """A model with its loss, so that one call is one forward pass whatever wraps it."""

    def __init__(self, model: RecursiveViT, class_weights: Tensor, smoothing: float, router: RouterLoss) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.smoothing = smoothing
        self.router = router

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """B x 3 x H x W and B classes to the loss, a scalar."""
        routed = reference(self.model, images)
        task = functional.cross_entropy(
            routed.logits, targets, weight=self.class_weights, label_smoothing=self.smoothing
        )
        return task + router_loss(routed, self.model.config, self.router)


def train(
    config: RecursiveConfig,
    data: TrainingSet,
    settings: TrainSettings,
    output: Path,
    *,
    initial: dict[str, Tensor] | None = None,
    resume: bool = False,
    report: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Train, and keep the averaged weights of the last epoch (not of the best: val stays unseen by the choice).

    Writes into `output` after every epoch `state.pt`, and at the end `checkpoint.safetensors` and `metrics.json`.

    Args:
        config: of the model.
        data: pictures in memory.
        settings: of the run.
        output: folder of the run.
        initial: weights to start from; fresh ones by the seed otherwise.
        resume: go on from `output`'s state, to the same result as if never stopped.
        report: called after every step on the leading process.

    Returns:
        The evaluation of the kept weights on `data.val`.

    Raises:
        InputError: `output` holds a run and `resume` is not asked; the run to resume had other settings or data;
            its state is damaged.
    """
    with join_world() as world:
        return _Run(config, data, settings, output, world, initial).finish(resume, report)


class _Run:
    """The moving state of one training run."""

    def __init__(
        self,
        config: RecursiveConfig,
        data: TrainingSet,
        settings: TrainSettings,
        output: Path,
        world: World,
        initial: dict[str, Tensor] | None,
    ) -> None:
        self.config, self.data, self.settings, self.output, self.world = config, data, settings, output, world
        torch.manual_seed(settings.seed)
        self.model = RecursiveViT(config).to(world.device)
        if initial is not None:
            self.model.load_state_dict(initial)
        weights = _class_weights(data.train, settings.class_weight_power).to(world.device)
        trainee = _Trainee(self.model, weights, settings.label_smoothing, settings.router_loss)
        self.trainee = world.spread(trainee.to(world.device))
        self.average = AveragedModel(
            self.model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay), use_buffers=True
        )
        self.optimizer = torch.optim.AdamW(_groups(self.model, settings.weight_decay), lr=settings.learning_rate)
        self.history: list[dict[str, float]] = []
        self.fingerprint = hashlib.sha256(
            strict_json.encode([config, settings, data.preprocess])
            + data.train.pixels.tobytes()
            + data.val.pixels.tobytes()
        ).hexdigest()

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.data.train) / self.settings.batch_size)

    def finish(self, resume: bool, report: Callable[[Progress], None] | None) -> Evaluation:
        state = self.output / _STATE
        if resume:
            self._load(state)
        elif state.exists():
            raise InputError(f"{self.output}: holds a training run; go on with --resume, or choose another --output")
        for epoch in range(len(self.history), self.settings.epochs):
            self._epoch(epoch, report)
            if self.world.leads:
                atomic_write(state, self._state())
        result = self._validate()
        if self.world.leads:
            kept = Checkpoint(self.kept, self.data.train.labels, self.data.preprocess)
            save_checkpoint(self.output / "checkpoint.safetensors", kept)
            atomic_write(self.output / "metrics.json", strict_json.encode(self._metrics(result)))
        return result

    @property
    def kept(self) -> RecursiveViT:
        model = self.average.module
        assert isinstance(model, RecursiveViT)
        return model

    def _epoch(self, epoch: int, report: Callable[[Progress], None] | None) -> None:
        self.model.train()
        total = 0.0
        for step, (images, targets) in enumerate(self._batches(epoch)):
            rate = _learning_rate(self.settings, epoch + step / self.steps_per_epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss = self.trainee(images, targets)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
            self.optimizer.step()
            self.average.update_parameters(self.model)
            total += float(loss.detach())
            if report and self.world.leads:
                report(Progress(epoch, step, self.steps_per_epoch, total / (step + 1)))
        record = {"epoch": epoch + 1, "loss": total / self.steps_per_epoch}
        if (epoch + 1) % self.settings.val_every == 0 or epoch + 1 == self.settings.epochs:
            record["val_accuracy"] = self._validate().accuracy
            if report and self.world.leads:
                last = self.steps_per_epoch - 1
                report(Progress(epoch, last, self.steps_per_epoch, record["loss"], record["val_accuracy"]))
        self.history.append(record)

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

    def _state(self) -> bytes:
        buffer = io.BytesIO()
        torch.save(
            {
                "fingerprint": self.fingerprint,
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "history": self.history,
            },
            buffer,
        )
        return buffer.getvalue()

    def _load(self, path: Path) -> None:
        if not path.exists():
            raise InputError(f"{path}: nothing to resume; start the run without --resume")
        try:
            state = torch.load(path, map_location=self.world.device, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(f"{path}: truncated or damaged; start again in another --output") from error
        if state["fingerprint"] != self.fingerprint:
            raise InputError(f"{path}: a run with other settings or pictures; give the same, or another --output")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = state["history"]

    def _metrics(self, result: Evaluation) -> dict[str, Any]:
        return {
            "config": self.config,
            "settings": self.settings,
            "preprocess": self.data.preprocess,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "train_pictures": len(self.data.train),
            "val": result,
            "history": self.history,
            "torch": torch.__version__,
        }


def _learning_rate(settings: TrainSettings, epoch: float) -> float:
    """Linear warm-up, then a cosine to zero; `epoch` counts in fractions."""
    if epoch < settings.warmup_epochs:
        return settings.learning_rate * (epoch + 0.01) / (settings.warmup_epochs + 0.01)
    done = (epoch - settings.warmup_epochs) / max(settings.epochs - settings.warmup_epochs, 1e-9)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and embeddings of one row do not."""
    decayed = [p for p in model.parameters() if p.ndim > 1 and p.shape[0] > 1]
    rest = [p for p in model.parameters() if not (p.ndim > 1 and p.shape[0] > 1)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _class_weights(images: LabelledImages, power: float) -> Tensor:
    """Frequency to the minus `power`, of mean 1 over the pictures: C float32."""
    count = np.bincount(images.targets, minlength=len(images.labels)).clip(min=1)
    weight = (count / count.sum()) ** -power
    return torch.tensor(weight * len(images) / (weight * count).sum(), dtype=torch.float32)
