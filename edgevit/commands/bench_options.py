"""The options of `edgevit bench` that no other command has, in the order of its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from edgevit import console
from edgevit.commands.options import setting

__all__ = [
    "Baseline",
    "Bundles",
    "CheckLoadgen",
    "Compare",
    "Cpus",
    "Csv",
    "Data",
    "DeadlineMs",
    "Duration",
    "Force",
    "Html",
    "Iterations",
    "MaxSlowdown",
    "Output",
    "Percentiles",
    "PeriodMs",
    "Poisson",
    "Profile",
    "Runtimes",
    "SamplesPerQuery",
    "Scenario",
    "Schema",
    "Seed",
    "Strict",
    "TriggerFile",
    "Warmup",
    "WorstCase",
]


def _print_schema(wanted: bool) -> None:
    if wanted:
        from edgevit.benchmarks import report_schema

        console.show_json(report_schema())
        raise typer.Exit


Bundles = Annotated[
    list[Path] | None,
    typer.Argument(metavar="BUNDLE", help="Bundles; the first is what the others are compared with."),
]
Runtimes = Annotated[
    list[str],
    typer.Option(
        "--runtime", metavar="NAME", help="A name of `edgevit list runtimes`; again for more, each bundle on each."
    ),
]
Data = Annotated[Path | None, setting("--data", "DIR", "Folder of images to run.", "seeded noise")]
WorstCase = Annotated[
    bool,
    typer.Option("--worst-case", help="Time adaptive bundles at their fullest too: no image takes longer."),
]
Scenario = Annotated[
    Literal["single-stream", "multi-stream", "offline", "paced"] | None,
    setting("--scenario", "NAME", "single-stream, multi-stream, offline or paced.", "single-stream"),
]
SamplesPerQuery = Annotated[int | None, setting("--samples-per-query", "N", "Images of a multi-stream query.", "8")]
PeriodMs = Annotated[float | None, setting("--period-ms", "X", "Milliseconds from a paced query to the next.", "none")]
Poisson = Annotated[bool, typer.Option("--poisson", help="Paced queries come at random, --period-ms apart on average.")]
TriggerFile = Annotated[
    Path | None,
    typer.Option("--trigger-file", metavar="FILE", help="Paced queries come as recorded: a time in ms a line."),
]
DeadlineMs = Annotated[float | None, setting("--deadline-ms", "X", "Count the queries that take longer.", "none")]
Warmup = Annotated[float | None, setting("--warmup", "S", "Seconds of warm-up at most; steady times end it.", "15")]
Duration = Annotated[float | None, setting("--duration", "S", "Seconds that each is timed at least.", "10")]
Iterations = Annotated[int | None, setting("--iterations", "N", "Queries that each runs at least.", "100")]
Percentiles = Annotated[
    list[float] | None, setting("--percentile", "P", "To report, above 0 and below 100; again for more.", "50, 90, 99")
]
Seed = Annotated[int | None, setting("--seed", "N", "Of noise, order, arrivals and intervals.", "0")]
Cpus = Annotated[str | None, setting("--cpus", "N,N,...", "CPUs that every candidate is bound to.", "as it is now")]
Profile = Annotated[bool, typer.Option("--profile", help="Time by operator, block and step too, in a run of its own.")]
CheckLoadgen = Annotated[
    bool, typer.Option("--check-loadgen", help="Run MLPerf's loadgen too, and exit with 1 if it sees another time.")
]
Baseline = Annotated[
    Path | None, typer.Option("--baseline", metavar="FILE", help="A file of --output: exit with 1 if slower than that.")
]
MaxSlowdown = Annotated[
    str | None, setting("--max-slowdown", "PCT", "Per cent by which --baseline may be exceeded.", "5%")
]
Force = Annotated[bool, typer.Option("--force", help="Judge by --baseline although machine or scenario differ.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 for any check, and for an inconclusive gate.")]
Output = Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write every sample and fact as JSON.")]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write a row for each query.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with charts, one file.")]
Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option("--compare", metavar="A.json B.json", help="Measure nothing; compare two files of --output."),
]
Schema = Annotated[
    bool,
    typer.Option("--schema", help="Print the JSON Schema of --output.", is_eager=True, callback=_print_schema),
]
