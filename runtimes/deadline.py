"""The latency contract: the caps under which a bundle's answers stay within a deadline on this device.

What is promised rests on a curve that was measured here (`edgevit bench --curve`): of the caps whose bound is within
the deadline, those that leave the steps the most room. The bound covers one call of `Session.predict` with as many
pictures as the graph takes, alone on the machine: reading and preprocessing pictures like those that were measured,
the graph with every step as full as its cap allows, the answer. It is the longest run seen times a margin, not a hard
bound.

Only ONNX Runtime on the CPU: it alone runs adaptive graphs whose constants can be set on loading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, isfinite, log2
from pathlib import Path

import numpy as np

from edgevit.bundle import GRAPH_NAME, Bundle
from edgevit.curve_record import MARGIN, Curve, Point, curve_command, read_curve
from edgevit.errors import InputError
from edgevit.levers import capping, forcing
from edgevit.runner import Runner
from edgevit.spec import RoutingSpec

from .ort import OrtRunner
from .ort_mapped import MappedWeights

__all__ = ["RUNTIME", "Contract", "adaptive_routing", "open_capped", "open_forced", "promise"]

RUNTIME = "ort"


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a session promises, and how it keeps it.

    Attributes:
        deadline_ms: for a call of `predict` with as many pictures as the graph takes.
        min_tokens: no step that wants tokens is held to fewer.
        bound_ms: what such a call is expected not to exceed: the longest run seen, times `margin`.
        margin: of that bound.
        covered: the share of runs of the fullest graph that the longest seen covers, with a confidence of 95 %.
        caps: the most tokens of each step after the first.
        tokens: N; a cap of so many leaves nothing out.
        library_version: of the runtime that was measured.
        threads: as in the runtime's facts.
        again: what measures anew.
    """

    deadline_ms: float
    min_tokens: int
    bound_ms: float
    margin: float
    covered: float
    caps: tuple[int, ...]
    tokens: int
    library_version: str
    threads: str
    again: str

    def __str__(self) -> str:
        """One line: what is promised, and by what."""
        held = ", ".join(map(str, self.caps))
        return f"within {self.deadline_ms:g} ms (bound {self.bound_ms:.4g}) by {held} of {self.tokens} tokens a step"

    def check(self, facts: Mapping[str, str | int]) -> None:
        """Hold a runner's facts against those of the runner that was measured.

        Raises:
            InputError: it is another runtime, or another version of it.
        """
        got = tuple(str(facts.get(name)) for name in ("runtime", "version", "threads"))
        wanted = (RUNTIME, self.library_version, self.threads)
        if got != wanted:
            raise InputError(
                f"the budgets were measured on {' '.join(wanted)} threads, this is {' '.join(got)} threads; "
                f"run: {self.again}"
            )


def adaptive_routing(bundle: Bundle) -> RoutingSpec:
    """The routing of a bundle whose time follows the picture.

    Raises:
        InputError: it is another bundle, which always takes the same time.
    """
    routing = bundle.manifest.routing
    if routing is None or routing.mode != "adaptive":
        mode = "has no routing" if routing is None else f"is {routing.mode}"
        raise InputError(f"{bundle.path}: {mode}, so there are no budgets to choose; export it with --routing adaptive")
    if bundle.stages is not None:
        raise InputError(
            f"{bundle.path}: is adaptive in stages, whose budgets take no caps; export it again with --target cpu-x86"
        )
    return routing


def promise(bundle: Bundle, deadline_ms: float, min_tokens: int = 0, *, threads: int | None = None) -> Contract:
    """The contract that leaves the steps the most room.

    Args:
        bundle: an adaptive one.
        deadline_ms: milliseconds from a call of `predict` to its answer.
        min_tokens: the fewest tokens that a step which wants them may be held to: the plant's margin of safety.
        threads: CPU threads of the session; the curve must have been measured with as many.

    Raises:
        InputError: the bundle is not adaptive, no curve of it was measured here, the numbers make no sense, or even the
            smallest budget misses the deadline: the line says by how much.
    """
    routing = adaptive_routing(bundle)
    if isinstance(deadline_ms, (bool, str)) or not (isfinite(deadline_ms) and deadline_ms > 0):
        raise InputError(f"deadline_ms {deadline_ms!r}; wanted a number of milliseconds above 0")
    if isinstance(min_tokens, bool) or not isinstance(min_tokens, int):
        raise InputError(f"min_tokens {min_tokens}; wanted one whole number, 0 to {routing.tokens}")
    if not 0 <= min_tokens <= routing.tokens:
        raise InputError(f"min_tokens {min_tokens}; wanted 0 to {routing.tokens}, the tokens of {bundle.path}")
    curve = read_curve(bundle, RUNTIME, threads)
    known = [set(rungs) for rungs in routing.budgets]
    safe = [
        point
        for point in curve.points
        if all(min_tokens <= cap and cap in rungs for cap, rungs in zip(point.caps, known, strict=True))
    ]
    again = curve_command(bundle, threads)
    if not safe:
        raise InputError(f"{bundle.path}: its curve has no budgets of {min_tokens} tokens or more; run: {again}")
    fitting = [point for point in safe if curve.bound_ns(point) <= deadline_ms * 1e6]
    if not fitting:
        raise InputError(_missed(bundle, curve, min(safe, key=curve.bound_ns), deadline_ms, min_tokens))
    best = max(fitting, key=_kept)
    dropping = any(cap < routing.tokens for cap in best.caps)
    if dropping and "dropped" not in [output.name for output in bundle.manifest.outputs]:
        raise InputError(
            f"{bundle.path}: would drop tokens to keep {deadline_ms:g} ms and cannot say so; export it again, without "
            "--no-trace"
        )
    return Contract(
        deadline_ms=deadline_ms,
        min_tokens=min_tokens,
        bound_ms=curve.bound_ns(best) / 1e6,
        margin=MARGIN,
        covered=best.durations.covered,
        caps=best.caps,
        tokens=routing.tokens,
        library_version=curve.library_version,
        threads=curve.threads,
        again=again,
    )


def _kept(point: Point) -> tuple[float, tuple[int, ...]]:
    """The room that the steps have, each doubling of a step's counted alike; of equal rooms, earlier steps first.

    By the plain sum one step of all tokens would count for more than three of as many as nearly every picture takes,
    and a step without any is one that is switched off.
    """
    kept = [min(point.caps[: step + 1]) for step in range(len(point.caps))]
    return sum(log2(1 + tokens) for tokens in kept), point.caps


def _missed(bundle: Bundle, curve: Curve, least: Point, deadline_ms: float, min_tokens: int) -> str:
    bound_ms = curve.bound_ns(least) / 1e6
    budget = ", ".join(map(str, least.caps)) or "no"
    floor = f" that min_tokens {min_tokens} allows" if min_tokens else ""
    return (
        f"{bundle.path}: a deadline of {deadline_ms:g} ms is missed by {bound_ms - deadline_ms:.3g} ms even with the "
        f"smallest budget{floor} ({budget} tokens a step: {bound_ms:.3g} ms, of which {curve.around.max_ns / 1e6:.3g} "
        f"before the margin stand around the graph); allow {ceil(bound_ms * 100) / 100:g} ms or use a smaller model"
    )


def open_capped(bundle: Bundle, caps: Sequence[int], threads: int | None = None) -> Runner:
    """A runner, not entered, that goes on with at most so many tokens at each step after the first."""
    return _open(bundle, capping(adaptive_routing(bundle), caps), threads)


def open_forced(bundle: str | Path | Bundle, caps: Sequence[int], threads: int | None = None) -> Runner:
    """A runner, not entered, for measuring: it goes on with just so many tokens, whatever the picture."""
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    return _open(opened, forcing(adaptive_routing(opened), caps), threads)


def _open(bundle: Bundle, values: Mapping[str, np.ndarray], threads: int | None) -> Runner:
    """The bundle's graph with other constants, its weights mapped as by any session: the same memory, the same time."""
    read_checked = partial(bundle.read, GRAPH_NAME)
    return OrtRunner(read_checked, threads=threads, initializers=values, weights=MappedWeights(bundle))
