"""`edgevit bench --curve`: what the budgets of an adaptive bundle cost here, kept beside it for its deadlines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgevit import console
from edgevit.errors import InputError

if TYPE_CHECKING:
    from edgevit.curve_record import Curve

__all__ = ["CurveWanted", "bench_curve"]


# What goes with it; anything else would be ignored, and is refused instead.
_BESIDE = ("curve", "bundles", "runtime", "threads", "data", "iterations", "json")

CurveWanted = Annotated[
    bool,
    typer.Option(
        "--curve",
        help="Time the budgets of one adaptive bundle, --iterations runs each, and keep them for its deadlines.",
    ),
]


def bench_curve(
    context: typer.Context,
    bundles: Sequence[Path] | None,
    *,
    runtimes: Sequence[str],
    threads: int | None,
    data: Path | None,
    runs: int | None,
    as_json: bool,
) -> None:
    """Measure the curve of one bundle, keep it and show it.

    Raises:
        InputError: more or fewer than one bundle, a runtime whose budgets cannot be set, or an option that has no
            meaning here.
    """
    from edgevit.curve import measure_curve

    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name not in _BESIDE and source is not None and source.name == "COMMANDLINE":
            raise InputError(f"--curve times the budgets of one bundle; leave {parameter.opts[0]} out")
    if bundles is None or len(bundles) != 1:
        raise InputError(f"--curve is of one bundle, got {len(bundles or ())}; give one adaptive bundle")
    if not set(runtimes) <= {"auto", "ort"}:
        raise InputError(f"--curve on {', '.join(runtimes)}, whose budgets cannot be set; leave --runtime out")
    (bundle,) = bundles
    notes: list[str] = []
    with console.progress() as tell:
        curve = measure_curve(
            bundle,
            threads=threads,
            data=data,
            report=lambda done: tell(done, f"time the budgets of {bundle.name}"),
            note=notes.append,
            **({} if runs is None else {"runs": runs}),
        )
    if as_json:
        console.show_json({"curve": curve, "bounds_ms": [curve.bound_ns(point) / 1e6 for point in curve.points]})
    else:
        _show(bundle, curve)
    for line in notes:
        console.note(line)


def _show(bundle: Path, curve: Curve) -> None:
    from edgevit.curve_record import MARGIN

    rows = []
    for point in curve.points:
        times = point.durations
        shown = [console.milliseconds(ns) for ns in (times.p50_ns, times.p99_ns, times.max_ns, curve.bound_ns(point))]
        rows.append([", ".join(map(str, point.caps)), *shown, str(times.runs)])
    console.show_table(
        ("tokens a step", ">median ms", ">p99", ">longest", ">bound", ">runs"),
        rows,
        title=f"{bundle}: each step after the first as full as it may be, {curve.runtime} {curve.library_version}, "
        f"threads {curve.threads}",
    )
    around = curve.around
    console.show_line("")
    console.show_line(
        f"around the graph ({curve.around_of}): median {console.milliseconds(around.p50_ns)} ms, longest "
        f"{console.milliseconds(around.max_ns)} ms"
    )
    fewest = min((point.durations for point in curve.points), key=lambda durations: durations.runs)
    console.note(
        f"a bound is {MARGIN:g} times the longest run seen, here with what stands around it; {fewest.runs} runs cover "
        f"{console.percent(fewest.covered)} of those to come, if these are like them: no hard real-time bound"
    )
