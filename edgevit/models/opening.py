"""The door every model comes in by: a name, perhaps with a checkpoint, becomes a `ModelSource`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from edgevit.errors import InputError
from edgevit.extras import needs
from edgevit.models.architecture import (
    Architecture,
    config_of,
    load_plain,
    plain_of,
    plain_weights,
    seeded,
    with_classes,
)
from edgevit.models.backbone_config import TimmConfig
from edgevit.models.catalog import CATALOG, entry_named
from edgevit.models.checkpoint import holds_checkpoint, load_checkpoint
from edgevit.models.recursive import EarlyMerge, RecursiveConfig
from edgevit.models.reduced_config import ReducedConfig
from edgevit.models.schedule import parse_schedule
from edgevit.models.source import IMAGENET_MEAN, IMAGENET_STD, ModelSource, from_function, numbered
from edgevit.preprocess import Preprocess
from edgevit.spec import Method

__all__ = ["open_model"]


def open_model(
    name: str,
    *,
    checkpoint: Path | None = None,
    num_classes: int | None = None,
    input_size: int | None = None,
    schedule: str | None = None,
) -> ModelSource:
    """Open a model by name.

    Args:
        name: one of the catalog's; `timm/NAME` for a classifier of timm's; `tome/NAME`, `ltm/NAME`, `dynamicvit/NAME`
            or `evit/NAME` for one of either with its tokens reduced; or `package.module:function`, a function that
            takes nothing and returns an `nn.Module`.
        checkpoint: weights to use instead of the shipped ones: a checkpoint of edgevit's, which brings config, labels
            and preprocessing; for a model of timm's also its plain weights (.safetensors, .pth); for a function any
            safetensors of its state dict. A reduced model takes its own or those of the plain model.
        num_classes: how many classes the head has; checked against the weights.
        input_size: pixels a side, where the architecture leaves it open.
        schedule: what a reduced model reduces where, as `edgevit.models.schedule.parse_schedule` reads it; for a
            recursive one the number of tokens that enter its first step.

    Raises:
        InputError: the name is unknown, the function cannot be imported or returns something else, the checkpoint
            does not fit, the schedule cannot be carried out, or the numbers disagree with the weights.
        MissingExtra: a model of timm's without timm.
    """
    method, _, base = name.partition("/")
    reduces = bool(base) and method in get_args(Method)
    if schedule is not None and not reduces:
        raise InputError(f"--schedule for {name}, which reduces no tokens; it goes with tome/NAME, ltm/NAME and so on")
    if ":" in name:
        return from_function(name, checkpoint, num_classes, input_size)
    if base and method == "timm":
        return _timm(name, base, checkpoint, num_classes, input_size)
    if reduces:
        return _reduced(name, method, base, checkpoint, num_classes, input_size, schedule)
    entry = entry_named(name)
    config, path = entry.config, checkpoint or entry.weights
    if path is None:
        config = _asked(name, config, num_classes, input_size)
        return ModelSource(name, seeded(config), numbered(config.classes), _usual(config.image_size))
    return _checked(_filled(name, config, path), num_classes, input_size)


def _timm(name: str, base: str, checkpoint: Path | None, classes: int | None, size: int | None) -> ModelSource:
    """A classifier of timm's, as it is."""
    with needs("zoo"):
        from edgevit.models.backbone import open_backbone
        from edgevit.models.timm_weights import load_timm_weights
    module, config, preprocess = open_backbone(base, classes, size)
    if checkpoint is not None and holds_checkpoint(checkpoint):
        return _checked(_filled(name, config, checkpoint), classes, size)
    digest = load_timm_weights(module, checkpoint).sha256 if checkpoint else ""
    return ModelSource(name, module, numbered(config.classes), preprocess, digest)


def _reduced(
    name: str, method: Any, base: str, checkpoint: Path | None, classes: int | None, size: int | None,
    schedule: str | None,
) -> ModelSource:  # fmt: skip
    """A model of the catalog or of timm's with its tokens reduced."""
    if base in {entry.name for entry in CATALOG}:
        entry = entry_named(base)
        config = _reducing(name, method, entry.config, schedule)
        path = checkpoint or entry.weights
        if path is None:
            config = _asked(name, config, classes, size)
            return ModelSource(name, seeded(config), numbered(config.classes), _usual(config.image_size))
        return _checked(_filled(name, config, path, scheduled=schedule is not None), classes, size)
    with needs("zoo"):
        from edgevit.models.backbone import open_backbone
        from edgevit.models.grid_backbones import timm_schedule
        from edgevit.models.timm_weights import load_timm_weights
    plain, own, preprocess = open_backbone(base, classes, size)
    config = ReducedConfig(base=own, method=method, schedule=timm_schedule(name, plain, method, schedule))
    if checkpoint is not None and holds_checkpoint(checkpoint):
        return _checked(_filled(name, config, checkpoint, scheduled=schedule is not None), classes, size)
    module = seeded(config)
    if checkpoint is None:
        return ModelSource(name, module, numbered(config.classes), preprocess)
    weights = load_timm_weights(module, checkpoint)
    return ModelSource(name, module, numbered(config.classes), preprocess, weights.sha256, weights.fresh)


def _reducing(name: str, method: Any, config: Architecture, schedule: str | None) -> Architecture:
    """The architecture with a reduction in it.

    Raises:
        InputError: it cannot carry one.
    """
    if isinstance(config, RecursiveConfig) and config.recursions > 1:
        if method not in ("tome", "ltm"):
            raise InputError(f"{name}: what merges before the first step of a recursive model is tome or ltm")
        text = schedule or str(config.patches // 2)
        if not text.isdecimal():
            raise InputError(f"--schedule '{text}' for {name}; give the number of tokens that enter its first step")
        return replace(config, early_merge=EarlyMerge(method=method, tokens=int(text)))
    if isinstance(config, ReducedConfig):
        raise InputError(f"{name}: that model has its tokens reduced already; name the plain one")
    assert isinstance(config, RecursiveConfig), "the catalog has no others"
    return ReducedConfig(
        base=config, method=method, schedule=parse_schedule(schedule, method, config.patches, config.depth)
    )


def _filled(name: str, config: Architecture, path: Path, *, scheduled: bool = False) -> ModelSource:
    """A model of that architecture with the weights of a checkpoint: its own, or those of the plain model.

    Args:
        name: MODEL.
        config: its architecture.
        path: the checkpoint.
        scheduled: whether the schedule was asked for, so that a checkpoint with another one does not fit.
    """
    stored = load_checkpoint(path)
    theirs = config_of(stored.model)
    if _shape(theirs, scheduled) == _shape(config, scheduled):
        return ModelSource(name, stored.model, stored.labels, stored.preprocess, stored.sha256)
    if _shape(theirs, True) != _shape(plain_of(config), True) or theirs == config:
        raise InputError(f"{path}: a checkpoint of another architecture than {name}; give the model it was trained as")
    module = seeded(with_classes(config, theirs.classes))
    fresh = load_plain(module, plain_weights(stored.model), str(path))
    return ModelSource(name, module, stored.labels, stored.preprocess, stored.sha256, fresh)


def _shape(config: Architecture, scheduled: bool) -> Architecture:
    """What must be equal for weights to fit: classes and thresholds come with them, and so may a schedule."""
    config = with_classes(config, 1)
    if isinstance(config, TimmConfig):
        return replace(config, name=config.name.partition(".")[0])  # a tag is of the weights, not of the model
    if isinstance(config, ReducedConfig):
        base = _shape(config.base, scheduled)
        assert isinstance(base, (TimmConfig, RecursiveConfig)), "what a reduced model is made of"
        return replace(config, base=base) if scheduled else replace(config, base=base, schedule=(), variant="soft")
    merge = config.early_merge
    if merge is not None and not scheduled:
        merge = EarlyMerge(method=merge.method, tokens=config.patches - 1)
    return replace(config, thresholds=None, early_merge=merge)


def _asked(name: str, config: Architecture, classes: int | None, size: int | None) -> Architecture:
    """The architecture with as many classes as asked for, for a model without weights."""
    if size not in (None, config.image_size):
        raise InputError(f"--input-size {size}, but {name} takes {config.image_size}; leave it out")
    return config if classes is None else with_classes(config, classes)


def _checked(source: ModelSource, classes: int | None, size: int | None) -> ModelSource:
    """A model with weights, which have the numbers that were asked for."""
    have, side = len(source.labels), source.preprocess.height
    if classes not in (None, have):
        raise InputError(
            f"--num-classes {classes}, but the weights of {source.name} have {have}; leave it out or retrain"
        )
    if size not in (None, side):
        raise InputError(f"--input-size {size}, but {source.name} was trained at {side}; leave it out or retrain")
    return source


def _usual(size: int) -> Preprocess:
    """The preprocessing of a model that brings none."""
    return Preprocess(height=size, width=size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
