"""`edgevit bench`: how long bundles take, side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgevit import api, console
from edgevit.commands.options import Json, Threads, given, setting
from edgevit.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from edgevit.benchmarks import Comparison, Measurement, Progress, Summary

__all__ = ["bench"]

_Bundles = Annotated[
    list[Path], typer.Argument(metavar="BUNDLE", help="Bundles; the first is what the others are compared with.")
]
_Runtimes = Annotated[
    list[str], typer.Option("--runtime", metavar="NAME", help="A name of `edgevit list runtimes`; again for more.")
]
_Data = Annotated[Path | None, setting("--data", "DIR", "Images to run.", "seeded noise")]
_Scenario = Annotated[
    Literal["single-stream", "multi-stream", "offline", "paced"] | None,
    setting("--scenario", "NAME", "single-stream, multi-stream, offline or paced.", "single-stream"),
]
_SamplesPerQuery = Annotated[int | None, setting("--samples-per-query", "N", "Images of a multi-stream query.", "8")]
_PeriodMs = Annotated[float | None, setting("--period-ms", "X", "Milliseconds between paced queries.", "none")]
_Poisson = Annotated[bool, typer.Option("--poisson", help="Let paced queries come at random, with that mean period.")]
_DeadlineMs = Annotated[float | None, setting("--deadline-ms", "X", "Count the queries that take longer.", "none")]
_Warmup = Annotated[float | None, setting("--warmup", "S", "Longest warm-up; the data end it.", "15")]
_Duration = Annotated[float | None, setting("--duration", "S", "Seconds that each is timed at least.", "10")]
_Iterations = Annotated[int | None, setting("--iterations", "N", "Queries that each runs at least.", "100")]
_Percentiles = Annotated[list[float] | None, setting("--percentile", "P", "To report; again for more.", "50, 90, 99")]
_Seed = Annotated[int | None, setting("--seed", "N", "Of noise, order and intervals.", "0")]
_Cpus = Annotated[str | None, setting("--cpus", "N,N,...", "CPUs that every candidate is bound to.", "as it is now")]
_Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 if anything stands against the figures.")]
_Output = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="Write every sample and fact as JSON, too.")
]


def bench(
    bundles: _Bundles,
    runtime: _Runtimes = ["auto"],  # noqa: B006 - typer copies it
    data: _Data = None,
    scenario: _Scenario = None,
    samples_per_query: _SamplesPerQuery = None,
    period_ms: _PeriodMs = None,
    poisson: _Poisson = False,
    deadline_ms: _DeadlineMs = None,
    warmup: _Warmup = None,
    duration: _Duration = None,
    iterations: _Iterations = None,
    percentile: _Percentiles = None,
    seed: _Seed = None,
    threads: Threads = None,
    cpus: _Cpus = None,
    output: _Output = None,
    strict: _Strict = False,
    json: Json = False,
) -> None:
    """Time bundles side by side.

    Each runs in a process of its own, in blocks that take turns, so that what disturbs the machine disturbs all alike.
    The ratio to the first bundle is what can be compared with another machine or another day.
    """
    settings = given(
        scenario=scenario,
        samples_per_query=samples_per_query,
        period_ms=period_ms,
        arrivals="poisson" if poisson else None,
        deadline_ms=deadline_ms,
        warmup_cap_s=warmup,
        min_duration_s=duration,
        min_queries=iterations,
        percentiles=tuple(percentile) if percentile else None,
        seed=seed,
        cpus=None if cpus is None else _numbers(cpus),
    )
    # Not live: nothing of this process may run while a candidate is timed.
    with console.progress(live=False) as tell:
        measurement = api.measure(
            bundles,
            runtimes=runtime,
            threads=threads,
            data=data,
            progress=lambda at: tell(at.done, _doing(at), at.remaining_s),
            command_line=sys.argv,
            **settings,
        )
    from edgevit.benchmarks import measurement_to_json, summarise
    from edgevit.files import atomic_write

    if output is not None:
        atomic_write(output, measurement_to_json(measurement))
    summary = summarise(measurement)
    if json:
        console.show_json(summary)
    else:
        _show(measurement, summary)
    if output is not None:
        console.note(f"every sample in {output}")
    _judge(measurement, summary, strict)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--cpus {text}: wanted numbers with commas between them, such as 0,1") from None


def _doing(at: Progress) -> str:
    """What the progress line says: the phase, and the medians so far."""
    if at.phase != "measure":
        return f"{at.phase} {at.candidate}".rstrip()
    medians = (
        f"{one.name} {console.milliseconds(one.median_ns)} ms" for one in at.running if one.median_ns is not None
    )
    return " · ".join(medians)


def _show(measurement: Measurement, summary: Summary) -> None:
    """The figures, the A/A pilot that says how far they can be trusted, and what stands against them."""
    reference = summary.candidates[0].name
    against = {comparison.candidate: comparison for comparison in summary.comparisons}
    columns = ["bundle", ">queries", *(f">p{percentile:g}" for percentile in measurement.settings.percentiles)]
    if measurement.settings.scenario in ("multi-stream", "offline"):
        columns.append(">images/s")
    if against:
        columns += [">ratio", f"{measurement.settings.confidence:.0%} interval".replace("%", " %"), "verdict"]
    rows = []
    for candidate in summary.candidates:
        row: list[Any] = [candidate.name, str(candidate.queries)]
        row += [_milliseconds(percentile.value) for percentile in candidate.percentiles]
        if ">images/s" in columns:
            row.append("-" if candidate.images_per_s is None else f"{candidate.images_per_s:.4g}")
        if against:
            row += _ratio(against.get(candidate.name))
        rows.append(row)
    console.show_table(columns, rows, title="milliseconds a query" + (f", ratio to {reference}" if against else ""))
    for candidate in summary.candidates:
        if (deadline := candidate.deadline) is not None:
            console.show_line(
                f"{candidate.name}: {deadline.missed} of {deadline.queries} over {deadline.deadline_ms:g} ms"
            )
    if (pilot := summary.pilot) is not None:
        itself = f"{reference} against itself: {pilot.ratio:.3f}, {pilot.low:.3f} to {pilot.high:.3f}"
        console.show_line(console.faint(itself))
    for check in summary.checks:
        console.show_line(console.caution(check.name), str(check))


def _milliseconds(duration_ns: float | None) -> str:
    """`-` for a percentile that so few queries do not give; a check says how many it takes."""
    return "-" if duration_ns is None else console.milliseconds(duration_ns)


def _ratio(comparison: Comparison | None) -> list[Any]:
    if comparison is None:
        return ["", "", ""]
    interval = comparison.interval
    mark = {"faster": console.good, "slower": console.bad, "inconclusive": console.faint}[comparison.verdict]
    return [f"{interval.ratio:.3f}", f"{interval.low:.3f} to {interval.high:.3f}", mark(comparison.verdict)]


def _judge(measurement: Measurement, summary: Summary, strict: bool) -> None:
    """Exit with 1 for a run that failed, was cut short or, if asked to be strict, has anything against it."""
    for candidate in summary.candidates:
        if candidate.failure is not None:
            raise CheckFailed(f"{candidate.name}: {candidate.failure}")
    if measurement.ended == "interrupted":
        raise CheckFailed("the run was interrupted: these figures are partial; run it to its end")
    if strict and summary.checks:
        raise CheckFailed(
            f"{len(summary.checks)} checks against these figures (--strict); the first: {summary.checks[0]}"
        )
