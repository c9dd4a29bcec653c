"""The architectures: one union of configs, and what turns one into a module; timm is imported where it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.extras import needs
from edgevit.models.backbone_config import TimmConfig
from edgevit.models.fitting import check_weights
from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.models.reduced import reduced_model
from edgevit.models.reduced_config import ReducedConfig

__all__ = [
    "Architecture",
    "build",
    "config_of",
    "load_plain",
    "parameters_of",
    "plain_of",
    "plain_weights",
    "seeded",
    "with_classes",
]

Architecture = RecursiveConfig | ReducedConfig | TimmConfig


def build(config: Architecture) -> nn.Module:
    """The module of a config, with weights from torch's random state.

    Raises:
        InputError: a schedule or a reduction that this backbone cannot carry.
        MissingExtra: timm is not installed.
    """
    if isinstance(config, RecursiveConfig):
        return RecursiveViT(config)
    if isinstance(config, ReducedConfig):
        return reduced_model(config)
    with needs("zoo"):
        from edgevit.models.backbone import open_backbone
    return open_backbone(config.name, config.classes, config.image_size)[0]


def seeded(config: Architecture) -> nn.Module:
    """The module with random weights that are the same every time, without touching the caller's random state.

    Biases too: where they are zero an optimizer drops the additions, and the graph is not the one a trained model has.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(config).eval()
        if not isinstance(config, TimmConfig):
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    nn.init.normal_(parameter, std=0.02)
        return model


def parameters_of(config: Architecture) -> int:
    """Numbers it holds, each shared one counted once; edgevit's own models take no memory for the counting."""
    of_timm = isinstance(plain_of(config), TimmConfig)  # which computes with its buffers as it builds
    with torch.device("cpu" if of_timm else "meta"):
        return sum(parameter.numel() for parameter in build(config).parameters())


def with_classes(config: Architecture, classes: int) -> Architecture:
    """The same architecture with a head of another size."""
    if isinstance(config, ReducedConfig):
        return replace(config, base=replace(config.base, classes=classes))
    return replace(config, classes=classes)


def config_of(model: nn.Module) -> Architecture:
    """What a model was built from.

    Raises:
        InputError: it is no model of edgevit's.
    """
    config = getattr(model, "config", None)
    if not isinstance(config, Architecture):
        raise InputError(
            f"a {type(model).__name__} has no architecture that edgevit knows; build it from edgevit's parts"
        )
    return config


def plain_of(config: Architecture) -> Architecture:
    """The same architecture without its token reduction; itself where it has none."""
    if isinstance(config, ReducedConfig):
        return config.base
    if isinstance(config, RecursiveConfig):
        return replace(config, early_merge=None)
    return config


def plain_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model without reduction by its own names; those of timm's are timm's."""
    inner = model.model if isinstance(config_of(model), TimmConfig) else model
    assert isinstance(inner, nn.Module)
    return dict(inner.state_dict())


def load_plain(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> tuple[str, ...]:
    """Fill a reduced model with the weights of the plain one, which must be exactly its own.

    Args:
        model: what `build` made of a config with a reduction.
        weights: by the names of the plain model's state dict, as `plain_weights` gives them.
        where: what they are, for errors: the file's path.

    Returns:
        Names of the reducers' weights, which stay as they are.

    Raises:
        InputError: they are another model's.
    """
    if isinstance(model, RecursiveViT):
        own = {name: value for name, value in model.state_dict().items() if name.startswith("merge.")}
        filled = {**weights, **own}
        check_weights(model, filled, where)
        model.load_state_dict(filled)
        return tuple(own)
    fresh: tuple[str, ...] = model.load_plain(weights, where)  # type: ignore[operator]
    return fresh
