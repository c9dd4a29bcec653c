"""A training run from a folder of pictures to a checkpoint that can be exported."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgevit import strict_json
from edgevit.errors import InputError
from edgevit.files import atomic_write
from edgevit.metrics import Evaluation
from edgevit.models.architecture import with_classes
from edgevit.models.checkpoint import load_checkpoint, save_checkpoint
from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.training.calibrate import calibrate_thresholds
from edgevit.training.data import LabelledImages, normalisation, read_images, train_and_val
from edgevit.training.fit import TrainingSet
from edgevit.training.initial import architecture_named, start_from
from edgevit.training.layers_by_name import stem_of
from edgevit.training.loop import Progress, check_output, train
from edgevit.training.settings import TrainSettings

__all__ = ["Trained", "train_on_folder"]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training run left behind.

    Attributes:
        checkpoint: the file to export.
        evaluation: of the kept weights on the validation pictures.
        thresholds: router logits calibrated for the steps after the first; None unless asked for.
        fresh: names of the weights that the file to start from did not have; none without one.
        frozen: names of what stayed as it was.
    """

    checkpoint: Path
    evaluation: Evaluation
    thresholds: tuple[float, ...] | None
    fresh: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()


def train_on_folder(
    model: str,
    data: Path,
    settings: TrainSettings,
    output: Path,
    *,
    initial: Path | None = None,
    schedule: str | None = None,
    capacities: tuple[float, ...] | None = None,
    teacher: Path | None = None,
    resume: bool = False,
    calibrate: bool = False,
    val_share: float = 0.2,
    run_length: int = 8,
    report: Callable[[float, Progress], None] | None = None,
) -> Trained:
    """Train a model on a folder per class, whose classes become its own.

    Args:
        model: name of the architecture, as `edgevit.models.opening.open_model` takes it.
        data: `train` and `val`, or one folder per class to be split.
        settings: of the run.
        output: folder of the run, made if it is not there: `checkpoint.safetensors`, `metrics.json` and the
            state to resume from (`state.safetensors`).
        initial: a checkpoint of the same architecture to start from, with its preprocessing; for a model that reduces
            tokens also one of the plain model, for one of timm's also its plain weights.
        schedule: what a reduced model reduces where; otherwise that of `initial`, or the method's default.
        capacities: share of the patches that each step takes, in place of the model's; of a routed model.
        teacher: a checkpoint of any model of the same classes and preprocessing, whose answers are to be met too.
        resume: go on with the run in `output`.
        calibrate: afterwards set the router's thresholds on the training pictures and keep them in the checkpoint
            and, under `config`, in `metrics.json`; without it a finished run keeps those it has.
        val_share: share of each class to hold out where there is no `val`.
        run_length: neighbouring files that go to one side of that split together.
        report: called after every step on the leading process with the share of the run that is done.

    Raises:
        InputError: model, data and settings do not fit each other; `output` holds a run and `resume` is off, or the
            other way round; otherwise as `edgevit.training.loop.train`.
    """
    check_output(output, resume)  # reading pictures can take minutes
    config = architecture_named(model, schedule)
    if capacities is not None and not (isinstance(config, RecursiveConfig) and config.router != "none"):
        raise InputError(f"{model} has no router; leave --capacities out")
    if calibrate and not (isinstance(config, RecursiveConfig) and config.router == "expert_choice"):
        raise InputError(f"{model} has no expert-choice router and so no thresholds; leave --calibrate out")
    if settings.freeze_stem and initial is None:
        raise InputError("--freeze-stem would keep a random stem for good; give weights to start from with --init FILE")
    train_folder, val_folder = train_and_val(data, val_share, run_length, settings.seed)
    labels = train_folder.labels
    if initial is None:
        config = with_classes(config, len(labels))
        weights, preprocess = None, normalisation(train_folder, config.image_size)
        fresh: tuple[str, ...] = ()
    else:
        start = start_from(model, initial, schedule, labels, settings.seed)
        config, weights, fresh, preprocess = start.config, start.weights, start.fresh, start.preprocess
    if capacities is not None:
        assert isinstance(config, RecursiveConfig), "asked above"
        config = replace(config, capacities=capacities)
    frozen = stem_of(weights) if settings.freeze_stem and weights is not None else ()
    pictures = TrainingSet(read_images(train_folder, preprocess), read_images(val_folder, preprocess), preprocess)
    judge = None if teacher is None else load_checkpoint(teacher)

    def tell(at: Progress) -> None:
        if report is not None:
            report((at.epoch + (at.step + 1) / at.steps_per_epoch) / settings.epochs, at)

    evaluation = train(config, pictures, settings, output, initial=weights, teacher=judge, resume=resume, report=tell)
    checkpoint = output / "checkpoint.safetensors"
    leads = os.environ.get("RANK", "0") == "0"  # torchrun's number of this process
    thresholds = _calibrated(checkpoint, output / "metrics.json", pictures.train) if calibrate and leads else None
    return Trained(checkpoint=checkpoint, evaluation=evaluation, thresholds=thresholds, fresh=fresh, frozen=frozen)


def _calibrated(checkpoint: Path, metrics: Path, images: LabelledImages) -> tuple[float, ...] | None:
    """Put thresholds into a checkpoint and its metrics that meet its capacities on these pictures; return them."""
    stored = load_checkpoint(checkpoint)
    assert isinstance(stored.model, RecursiveViT)  # asked of its config before the run
    model = calibrate_thresholds(stored.model, images, stored.preprocess)
    save_checkpoint(checkpoint, replace(stored, model=model))
    record = strict_json.parse(metrics.read_bytes(), str(metrics))
    assert isinstance(record, dict)  # the training has just written it
    atomic_write(metrics, strict_json.encode(record | {"config": model.config}))
    return model.config.thresholds
