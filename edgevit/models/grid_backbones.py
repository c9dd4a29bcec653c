"""Which backbone of timm's carries which reduction, and the schedules they start from."""

from __future__ import annotations

import math
from typing import Any

from edgevit.errors import InputError
from edgevit.models.backbone import CARRIERS, Layout, TimmClassifier, layout_of, require_sequence
from edgevit.models.efficientvit_ltm import MergedEfficientViT
from edgevit.models.grid_reduced import GridReducedViT, halved, plan_sites
from edgevit.models.mobilevit_ltm import MergedMobileViT
from edgevit.models.reduction import ReducedAt
from edgevit.models.schedule import parse_pairs, parse_schedule
from edgevit.models.swin_ltm import MergedSwin
from edgevit.spec import Method

__all__ = ["GridReducedViT", "grid_family", "timm_schedule"]

_FAMILIES: dict[Layout, type[GridReducedViT]] = {
    "swin": MergedSwin,
    "mobilevit": MergedMobileViT,
    "efficientvit": MergedEfficientViT,
}


def grid_family(name: str, classifier: TimmClassifier, method: Method) -> type[GridReducedViT] | None:
    """The reduced form of a two-dimensional backbone; None for a sequence backbone, which carries every method.

    Raises:
        InputError: the backbone carries no reduction, or not this one.
    """
    layout = layout_of(classifier.model)
    if layout is None:
        require_sequence(name, classifier.model)
    if layout is None or layout == "sequence":
        return None
    if method != "ltm":
        raise InputError(f"{name}: {method} leaves tokens that make no grid, which this backbone needs; {CARRIERS}")
    return _FAMILIES[layout]


def timm_schedule(name: str, plain: TimmClassifier, method: Method, text: str | None) -> tuple[ReducedAt, ...]:
    """What `--schedule` means on a classifier of timm's.

    Args:
        name: MODEL, for errors.
        plain: the classifier.
        method: of reduction.
        text: as `edgevit.models.schedule.parse_schedule` reads it; BLOCK:TOKENS pairs for a two-dimensional backbone,
            blocks counted through all its stages. None for the default.

    Raises:
        InputError: the text is none of these, or the backbone cannot carry it out.
    """
    family = grid_family(name, plain, method)
    model: Any = plain.model
    if family is None:
        return parse_schedule(text, method, math.prod(model.patch_embed.grid_size), len(model.blocks))
    stages, grid = family.stages_of(plain)
    schedule = _default(family, plain) if text is None else parse_pairs(text)
    plan_sites(name, stages, grid, schedule)
    return schedule


# The stage whose first block merges, and what is left of the operations at the size a backbone was trained at, by
# `torch.utils.flop_counter`; the paper's savings (arXiv 2407.15219) are 0.84, 0.84 and 0.85.
#   swin_tiny_patch4_window7_224   block 4, 14 x 14 to 11 x 11   4.49 to 3.84 GMAC, 0.855
#   mobilevit_s                    block 0, 16 x 16 to 12 x 12   2.00 to 1.50 GMAC, 0.748
#   efficientvit_b1                block 0, 14 x 14 to 11 x 11   0.52 to 0.42 GMAC, 0.808
# Not earlier in Swin: a mask over 56 x 56 tokens costs what the merge saves.
_MERGES_IN: dict[type[GridReducedViT], int] = {MergedSwin: 2, MergedMobileViT: 0, MergedEfficientViT: 0}


def _default(family: type[GridReducedViT], plain: TimmClassifier) -> tuple[ReducedAt, ...]:
    """One merge to three quarters of a side, rounded up to a grid that fits."""
    stages, grid = family.stages_of(plain)
    at = min(_MERGES_IN[family], len(stages) - 1)
    for _ in range(at):
        grid = halved(grid)
    multiple = stages[at].multiple
    sides = [math.ceil(side * 0.75 / multiple) * multiple for side in grid]
    return (ReducedAt(sum(stage.blocks for stage in stages[:at]), math.prod(sides)),)
