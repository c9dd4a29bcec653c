"""What runs a bundle where the best does not: an order of runtimes, and why each better one was passed over.

Falling back is for applications, which would rather answer slowly than not at all, and it is never silent. Whoever
measures or verifies takes the one runtime that was named, or an error.

Does not know: how a runtime is opened, what a session is, how anything is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from edgevit.bundle import Bundle
from edgevit.errors import EdgevitError, InputError
from edgevit.manifest import Manifest
from edgevit.spec import Precision
from edgevit.strict_json import plain
from edgevit.targets import Runtime as TargetRuntime
from edgevit.targets import Target, target_named

__all__ = [
    "BUILDS_AT_START",
    "Health",
    "PassedOver",
    "computed_in",
    "first_that_starts",
    "rungs",
]

_Started = TypeVar("_Started")

# Best first, each of them a name of `choose.RUNTIMES` or one that this edgevit has not.
_RUNGS: dict[TargetRuntime, tuple[str, ...]] = {
    "trt": ("trt", "ort-trt", "ort-cuda", "ort"),
    "trt-rtx": ("trt-rtx", "ort-cuda", "ort"),
    "ov": ("ov", "ort"),
    "ort": ("ort",),
}
BUILDS_AT_START = "ort-trt"  # the rung that takes minutes, which nobody should have to guess


@dataclass(frozen=True)
class PassedOver:
    """A runtime that would have been better.

    Attributes:
        runtime: its name.
        reason: why it does not run the bundle here, with what to do about it.
    """

    runtime: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Health:
    """What runs a bundle, and what does not.

    Attributes:
        target: that the bundle was exported for.
        wanted: the runtime that was asked for by name, or the one the target is for.
        runtime: the one that runs it.
        facts: of that one: version, device or provider.
        passed_over: the better ones, best first; empty when the one that was wanted runs.
        precision: of the graph.
        computed_in: what it is computed in where that is something else; None where it is as the graph says.
        tuning: what `edgevit bench --autotune` measured here means for it, or why that is ignored; None where nothing
            was measured.
        tuning_ignored: whether there is such a measurement, and not one to be heeded.
        deadline: what is promised, and how few tokens a step may be held to for it; None without a deadline.
    """

    target: str
    wanted: str
    runtime: str
    facts: Mapping[str, str | int]
    passed_over: tuple[PassedOver, ...]
    precision: Precision
    computed_in: str | None
    tuning: str | None = None
    tuning_ignored: bool = False
    deadline: str | None = None

    @property
    def degraded(self) -> bool:
        """Whether something is otherwise than was asked for."""
        return bool(self.passed_over) or self.computed_in is not None or self.tuning_ignored

    def to_dict(self) -> dict[str, object]:
        """Everything in types that JSON has."""
        fields = plain(self)
        assert isinstance(fields, dict)
        return {"degraded": self.degraded, **fields}

    def __str__(self) -> str:
        """One line: what runs, and why not what was wanted."""
        on = self.facts.get("device") or self.facts.get("provider")
        parts = [f"runs on {self.runtime}{f' ({on})' if on else ''}"]
        if self.passed_over:
            parts[0] += f" in place of {self.wanted}"
            parts.append(self.passed_over[0].reason)
        if self.computed_in is not None:
            parts.append(f"its {self.precision} graph is computed in {self.computed_in}")
        if self.tuning is not None:
            parts.append(self.tuning)
        if self.deadline is not None:
            parts.append(self.deadline)
        return "; ".join(parts)


def rungs(target: Target) -> tuple[str, ...]:
    """The runtimes that serve a target, best first."""
    return _RUNGS[target.runtime]


def first_that_starts(
    bundle: Bundle, names: tuple[str, ...], start: Callable[[str, tuple[PassedOver, ...]], _Started]
) -> _Started:
    """Start runtimes in turn until one runs the bundle.

    Args:
        bundle: for the line of an error.
        names: best first.
        start: starts one, told those that were passed over, or raises an `EdgevitError` with the reason why not.

    Raises:
        EdgevitError: the only one there is does not run it.
        InputError: none of several does; the line has the reason of each.
    """
    passed_over: tuple[PassedOver, ...] = ()
    for name in names:
        try:
            return start(name, passed_over)
        except EdgevitError as error:
            if len(names) == 1:
                raise
            passed_over += (PassedOver(name, str(error)),)
    reasons = "; ".join(f"{one.runtime}: {one.reason}" for one in passed_over)
    raise InputError(f"{bundle.path}: nothing runs it here: {reasons}")


def computed_in(manifest: Manifest, facts: Mapping[str, str | int]) -> str | None:
    """What a graph of lower precision is computed in where that is not what it says; None where it is.

    ONNX Runtime's CPU provider has no half-precision kernels for most operators and puts casts to float32 around them.
    Its TensorRT provider builds engines that are not strongly typed, so that TensorRT chooses. OpenVINO is told to
    compute in fp32 what a graph has in any float.
    """
    precision = manifest.precision_achieved
    provider = str(facts.get("provider", ""))
    if precision == "fp32" or facts.get("runtime") not in ("ort", "ov"):
        return None
    if provider.startswith("TensorrtExecutionProvider"):
        return "what TensorRT chooses, since ONNX Runtime builds no strongly typed engine"
    if provider.startswith("CPUExecutionProvider") or facts.get("runtime") == "ov":
        if precision != "int8":
            return "fp32"
        if target_named(manifest.target).runtime in ("trt", "trt-rtx"):
            return "int8 and, where it says fp16, fp32"
    return None
