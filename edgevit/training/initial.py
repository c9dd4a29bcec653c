"""What a run starts from: the architecture a name stands for, and the weights of a file as far as they fit it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from edgevit.errors import InputError
from edgevit.models.architecture import Architecture, build, config_of, with_classes
from edgevit.models.checkpoint import holds_checkpoint
from edgevit.models.opening import open_model
from edgevit.models.recursive import RecursiveConfig
from edgevit.models.source import ModelSource
from edgevit.preprocess import Preprocess

__all__ = ["Start", "architecture_named", "start_from", "uncalibrated"]


@dataclass(frozen=True)
class Start:
    """What a file gives a run.

    Attributes:
        config: the architecture, with as many classes as the run has.
        weights: all of the model's, by the names of its state dict.
        preprocess: what the weights were trained with.
        fresh: names of the weights that are not the file's.
    """

    config: Architecture
    weights: dict[str, Tensor]
    preprocess: Preprocess
    fresh: tuple[str, ...]


def architecture_named(name: str, schedule: str | None) -> Architecture:
    """What `edgevit.models.opening.open_model` makes of a name, without thresholds.

    Raises:
        InputError: as `open_model`, or it is a module of somebody's own.
        MissingExtra: a backbone of timm's without timm.
    """
    return uncalibrated(config_of(open_model(name, schedule=schedule).module))


def start_from(name: str, path: Path, schedule: str | None, labels: tuple[str, ...], seed: int) -> Start:
    """Fill a model from a file.

    Args:
        name: the model.
        path: what `open_model` takes as its checkpoint: one of the model, or of the plain one where tokens are reduced;
            for a backbone of timm's also weights that others wrote.
        schedule: of a reduced model; the checkpoint's own by default.
        labels: of the run; where the file's are others, or of another number, the head starts afresh.
        seed: of the fresh weights.

    Raises:
        InputError: the file cannot be read, or is of another architecture.
    """
    source = _opened(name, path, schedule, len(labels))
    config = uncalibrated(with_classes(config_of(source.module), len(labels)))
    if holds_checkpoint(path):
        same_head = source.labels == labels
    else:
        same_head = len(source.labels) == len(labels)  # such a file names no classes
    not_taken = {*source.fresh, *(() if same_head else _head(config))}
    weights = _fresh(config, seed)
    weights |= {key: value for key, value in source.module.state_dict().items() if key not in not_taken}
    return Start(config, weights, source.preprocess, tuple(key for key in weights if key in not_taken))


def uncalibrated(config: Architecture) -> Architecture:
    """The config without thresholds, which are calibrated after training."""
    return replace(config, thresholds=None) if isinstance(config, RecursiveConfig) else config


def _opened(name: str, path: Path, schedule: str | None, classes: int) -> ModelSource:
    """The model with its file; one that others wrote has as many classes as the run, or as it was published with."""
    if holds_checkpoint(path):
        return open_model(name, checkpoint=path, schedule=schedule)
    refusals = []
    for head in (classes, None):
        try:
            return open_model(name, checkpoint=path, num_classes=head, schedule=schedule)
        except InputError as refusal:
            refusals.append(str(refusal).removeprefix(f"{path}: "))
    ours, published = refusals
    if ours == published:
        raise InputError(f"{path}: {ours}")
    raise InputError(f"{path}: fits no head of {classes} classes ({ours}) and not the published one ({published})")


def _fresh(config: Architecture, seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return dict(build(config).state_dict())


def _head(config: Architecture) -> set[str]:
    """Names of the weights whose shapes go with the number of classes."""
    ours, wider = (_fresh(with_classes(config, n), 0) for n in (config.classes, config.classes + 1))
    return {name for name, value in ours.items() if value.shape != wider[name].shape}
