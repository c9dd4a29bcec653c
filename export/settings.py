"""What an export is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from edgevit.errors import InputError
from edgevit.spec import Precision, RoutingMode, Selection
from edgevit.targets import TARGETS, target_named

__all__ = ["ExportSettings"]

_OLDEST_OPSET = 18  # the least that torch's exporter writes: asked for less it gives this with a warning
_NEWEST_WITH_INT8 = 20  # that every ONNX Runtime reads: 1.23, the last for Python 3.10, lacks QuantizeLinear of 23
# A larger batch is a mistake: tracing alone would take more memory than a device has.
_MOST_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Settings of one export.

    Attributes:
        target: the class of devices the graph is for.
        routing: how the graph carries routing out; None for the model's default.
        selection: the rule of an expert-choice router under `mask`; None for its default.
        thresholds: raw router logits for the steps after the first, in place of the model's; None for those, or 0
            where it was never calibrated.
        precision: of the graph.
        opset: ONNX opset; None for the target's, and for 20 in int8.
        batch_size: B, a constant of the graph.
        simplify: whether onnxsim may shorten the graph.
        trace: whether `depth` and `counts` are outputs.
        verify: whether the artefact is compared with its source before a bundle is written.
        budgets: rungs of every step of an adaptive graph, in patches; `auto` for those with the least expected time on
            `calibration_data`; None for the default ones.
        calibration_data: a folder of images such as the graph will see, by which rungs and ranges are chosen; int8
            needs one.
        calibration_samples: how many of them are looked at.
        atol: absolute tolerance on logits.
        rtol: the same relative to the reference's logit.
    """

    target: str = "cpu-x86"
    routing: RoutingMode | None = None
    selection: Selection | None = None
    thresholds: tuple[float, ...] | None = None
    precision: Precision = "fp32"
    opset: int | None = None
    batch_size: int = 1
    simplify: bool = True
    trace: bool = True
    verify: bool = True
    budgets: tuple[int, ...] | Literal["auto"] | None = None
    calibration_data: Path | None = None
    calibration_samples: int = 128
    atol: float = 1e-4
    rtol: float = 1e-4

    def __post_init__(self) -> None:
        target = target_named(self.target)
        if self.precision not in target.precisions:
            raise InputError(
                f"precision {self.precision} is not built for target {self.target}; use "
                f"{', '.join(target.precisions)}, or --target {self._target_with_it()}"
            )
        for name, value, known in (("routing", self.routing, RoutingMode), ("selection", self.selection, Selection)):
            if value is not None and value not in get_args(known):
                raise InputError(f"{name} '{value}'; wanted one of: {', '.join(get_args(known))}")
        if self.opset is not None and not _OLDEST_OPSET <= self.opset <= target.newest_opset:
            raise InputError(
                f"opset {self.opset} for target {self.target}; wanted {_OLDEST_OPSET} to {target.newest_opset}"
            )
        if not 1 <= self.batch_size <= _MOST_AT_ONCE:
            raise InputError(f"batch size {self.batch_size}; wanted 1 to {_MOST_AT_ONCE}")
        if self.precision != "fp32" and not self.verify:
            raise InputError(f"--precision {self.precision} is chosen by what it answers; leave out --no-verify")
        if self.precision == "int8" and self.calibration_data is None:
            raise InputError("--precision int8 needs pictures to measure ranges on; name some with --calibration-data")
        if self.calibration_samples < 1:
            raise InputError(f"calibration samples {self.calibration_samples}; wanted 1 or more")
        if self.budgets == "auto" and self.calibration_data is None:
            raise InputError("--budgets auto chooses by pictures; give a folder of them with --calibration-data")
        if isinstance(self.budgets, tuple) and (not self.budgets or min(self.budgets) < 0):
            raise InputError(f"budgets {self.budgets}; wanted numbers of patches from 0, such as 0,16,64,256")
        if not (self.atol >= 0 and self.rtol >= 0):
            raise InputError(f"tolerances are {self.atol} and {self.rtol}; wanted 0 or more")

    def _target_with_it(self) -> str:
        return next((target.name for target in TARGETS if self.precision in target.precisions), self.target)

    @property
    def opset_version(self) -> int:
        """The ONNX opset of the graph."""
        preferred = target_named(self.target).opset
        return self.opset or (min(preferred, _NEWEST_WITH_INT8) if self.precision == "int8" else preferred)
