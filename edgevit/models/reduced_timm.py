"""Reduced models over timm's classifiers."""

from __future__ import annotations

from edgevit.errors import InputError
from edgevit.extras import needs
from edgevit.models.backbone_config import TimmConfig
from edgevit.models.reduced import ReducedViT, build_reducers
from edgevit.models.reduced_config import ReducedConfig

with needs("zoo"):
    from edgevit.models.backbone import open_backbone
    from edgevit.models.grid_backbones import GridReducedViT, grid_family
    from edgevit.models.timm_vit import TimmViT

__all__ = ["build_reduced_timm"]


def build_reduced_timm(config: ReducedConfig) -> ReducedViT | GridReducedViT:
    """A classifier of timm's with its tokens reduced; the reducers' weights come from torch's random state.

    Raises:
        InputError: the backbone cannot carry this reduction (the line says which can), or not with this schedule.
        MissingExtra: timm is not installed.
    """
    assert isinstance(config.base, TimmConfig), "edgevit's own models are built elsewhere"
    name, method = config.base.name, config.method
    plain, _, _ = open_backbone(name, config.base.classes, config.base.image_size)
    family = grid_family(name, plain, method)
    if family is not None:
        return family(config, plain)
    backbone = TimmViT(plain)
    if method == "evit" and not backbone.has_cls:
        raise InputError(f"{name}: evit judges tokens by the attention of CLS, and this one has none; use tome or ltm")
    return ReducedViT(config, backbone, build_reducers(config, backbone))
