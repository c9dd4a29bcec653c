"""What an export does where its settings leave it open, and what it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from edgevit.errors import InputError
from edgevit.models.deploy import default_routing, routing_spec
from edgevit.models.recursive import RecursiveViT
from edgevit.models.source import ModelSource
from edgevit.models.thresholds import even_odds, with_thresholds
from edgevit.spec import RoutingSpec
from edgevit.targets import target_named

from .settings import ExportSettings

__all__ = ["decided", "in_stages", "routing_of"]

_LAZY_BRANCHES: tuple[str, ...] = ("ort",)  # runtimes seen to run only the branch taken
_IN_STAGES: tuple[str, ...] = ("trt", "trt-rtx")  # runtimes for which the host chooses between graphs instead


def in_stages(settings: ExportSettings) -> bool:
    """Whether adaptive routing is for the host to dispatch, between graphs."""
    return target_named(settings.target).runtime in _IN_STAGES


def decided(source: ModelSource, settings: ExportSettings, note: Callable[[str], None]) -> ModelSource:
    """The source with the thresholds that were asked for, or that stand for none where the rule needs some.

    Raises:
        InputError: there are thresholds and nothing that compares with them.
    """
    model, thresholds = source.module, settings.thresholds
    if not isinstance(model, RecursiveViT) or model.config.router != "expert_choice":
        if thresholds is not None:
            raise InputError("thresholds are for an expert-choice router, which this model has not; leave them out")
        return source
    by_threshold = settings.routing == "adaptive" or settings.selection == "threshold"
    if thresholds is None and by_threshold and model.config.thresholds is None:
        thresholds = even_odds(model)
        note(
            f"{source.name} has no calibrated thresholds: a step takes the patches that its router finds more likely "
            "than not; edgevit calibrate sets others"
        )
    return source if thresholds is None else dataclasses.replace(source, module=with_thresholds(model, thresholds))


def routing_of(source: ModelSource, settings: ExportSettings, note: Callable[[str], None]) -> RoutingSpec | None:
    """How the graph routes: as asked for, or as model and target suggest; None where there is nothing to route.

    Raises:
        InputError: the settings do not fit the model, the target or each other.
    """
    target = target_named(settings.target)
    branches = target.runtime in _LAZY_BRANCHES
    mode = settings.routing or default_routing(source.module, settings.selection, branches=branches)
    routing = routing_spec(source.module, mode, settings.selection)
    rule = None if routing is None else routing.selection
    if settings.thresholds is not None and rule != "threshold":
        raise InputError(
            f"--thresholds with --routing {mode}, which takes a fixed count; use --routing adaptive, or mask with "
            "--selection threshold"
        )
    if settings.calibration_data is not None and mode != "adaptive" and settings.precision == "fp32":
        raise InputError(
            f"--calibration-data chooses rungs and ranges, and an export in fp32 as {mode} has neither; leave it out"
        )
    calibrated = isinstance(source.module, RecursiveViT) and source.module.config.thresholds is not None
    if calibrated and settings.routing is None and rule == "top-k" and settings.selection is None:
        own = "adaptive" if in_stages(settings) else "mask --selection threshold"
        note(
            f"{source.name} follows the picture by its thresholds; for {target.name} it becomes {mode} with a fixed "
            f"count, another rule: --routing {own} keeps its own"
        )
    if mode == "adaptive" and not branches and not in_stages(settings):
        raise InputError(
            f"--routing adaptive for target {target.name}, where an If may cost all its branches; use --routing mask, "
            "or topk for expert choice"
        )
    if mode != "adaptive" and settings.budgets is not None:
        raise InputError(f"--budgets are the rungs of --routing adaptive, this export is {mode}; leave them out")
    return routing
