"""`edgevit bench`: how long bundles take, side by side."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgevit import api, console
from edgevit.commands import bench_options as option
from edgevit.commands.bench_autotune import Autotune, autotune
from edgevit.commands.bench_curve import CurveWanted, bench_curve
from edgevit.commands.bench_outcome import Outcome
from edgevit.commands.bench_progress import progress_rows
from edgevit.commands.bench_reports import Reports, require
from edgevit.commands.bench_stored import Gatekeeper, compare
from edgevit.commands.options import Json, Threads, given
from edgevit.errors import CheckFailed, EdgevitError, InputError
from edgevit.measuring import candidate_names

if TYPE_CHECKING:
    from edgevit.benchmarks import Settings

__all__ = ["bench"]


# What the harness calls it where the command line has another word.
_FIELDS = {
    "warmup_cap_s": "--warmup",
    "min_duration_s": "--duration",
    "min_queries": "--iterations",
    "samples_per_query": "--samples-per-query",
    "period_ms": "--period-ms",
    "deadline_ms": "--deadline-ms",
    "percentile": "--percentile",
    "seed": "--seed",
    "cpus": "--cpus",
}


def bench(
    context: typer.Context,
    bundles: option.Bundles = None,
    runtime: option.Runtimes = ["auto"],  # noqa: B006 - typer copies it
    data: option.Data = None,
    worst_case: option.WorstCase = False,
    scenario: option.Scenario = None,
    samples_per_query: option.SamplesPerQuery = None,
    period_ms: option.PeriodMs = None,
    poisson: option.Poisson = False,
    trigger_file: option.TriggerFile = None,
    deadline_ms: option.DeadlineMs = None,
    warmup: option.Warmup = None,
    duration: option.Duration = None,
    iterations: option.Iterations = None,
    percentile: option.Percentiles = None,
    seed: option.Seed = None,
    threads: Threads = None,
    cpus: option.Cpus = None,
    profile: option.Profile = False,
    autotuned: Autotune = False,
    curve: CurveWanted = False,
    check_loadgen: option.CheckLoadgen = False,
    baseline: option.Baseline = None,
    max_slowdown: option.MaxSlowdown = None,
    force: option.Force = False,
    strict: option.Strict = False,
    output: option.Output = None,
    csv: option.Csv = None,
    html: option.Html = None,
    compare_files: option.Compare = None,
    schema: option.Schema = False,
    json: Json = False,
) -> None:
    """Time bundles side by side.

    Each runs in a process of its own, in blocks that take turns, so that what disturbs the machine disturbs all alike.
    The ratio to the first bundle is what can be compared with another machine or another day.

    Exit status: 1 if a candidate failed, the run was interrupted (what was measured is written), the baseline's gate
    or loadgen said no, or --strict found something; 2 for what cannot be measured or written.
    """
    if compare_files is not None:
        _refuse_beside_compare(context)
        compare(*compare_files, as_json=json)
        return
    if autotuned:
        autotune(context, bundles, data=data, as_json=json)
        return
    if curve:
        bench_curve(context, bundles, runtimes=runtime, threads=threads, data=data, runs=iterations, as_json=json)
        return
    if again := [name for name in runtime if runtime.count(name) > 1]:
        raise InputError(f"--runtime {again[0]} is given twice; name each runtime once")
    if not bundles:
        raise InputError("missing argument 'BUNDLE'; give one or more bundles, or --compare A.json B.json")
    options = given(
        scenario=scenario,
        samples_per_query=samples_per_query,
        period_ms=period_ms,
        arrivals=_arrivals(poisson, trigger_file),
        trigger_gaps_ms=None if trigger_file is None else _gaps(trigger_file),
        deadline_ms=deadline_ms,
        warmup_cap_s=warmup,
        min_duration_s=duration,
        min_queries=iterations,
        percentiles=tuple(dict.fromkeys(percentile)) if percentile else None,
        profile_queries=20 if profile else None,
        seed=seed,
        cpus=None if cpus is None else _numbers(cpus),
    )
    settings = _checked(options)
    if check_loadgen and settings.scenario != "single-stream":
        raise InputError(f"--check-loadgen measures single-stream; leave --scenario {settings.scenario} out")
    if check_loadgen:
        require("mlperf_loadgen", "mlcommons-loadgen")
    reports = Reports(output, csv, html)
    reports.check(bundles, data, [path for path in (baseline, trigger_file) if path is not None])
    names = candidate_names(bundles, runtime, worst_case)
    gate = None
    if baseline is not None:
        gate = Gatekeeper.open(baseline, max_slowdown, force)
        gate.check(settings, names)
    elif max_slowdown is not None or force:
        raise InputError(f"{'--force' if force else '--max-slowdown'} is for --baseline FILE; give that too")

    what: dict[str, Any] = {"runtimes": runtime, "threads": threads, "data": data, "worst_case": worst_case, **options}
    with console.live_rows() as draw:
        measurement = api.measure(bundles, progress=lambda at: draw(progress_rows(at)), command_line=sys.argv, **what)
    from edgevit.benchmarks import summarise

    problems: list[EdgevitError] = [*reports.write(measurement)]
    outcome = Outcome(measurement=measurement, summary=summarise(measurement))
    if gate is not None:
        with _kept(problems):
            outcome = replace(outcome, gates=gate.judge(measurement))
    if check_loadgen and measurement.ended == "complete":
        with _kept(problems), console.progress(live=False) as tell:
            checked = api.check_loadgen(
                bundles,
                progress=lambda name, done: tell((names.index(name) + done) / len(names), f"loadgen {name}"),
                **what,
            )
            outcome = replace(outcome, loadgen=checked)
    if json:
        console.show_json(outcome.to_dict())
    else:
        outcome.show()
    reports.tell()
    problems += outcome.problems(strict)
    if problems:
        raise problems[0]


def _arrivals(poisson: bool, trigger_file: Path | None) -> str | None:
    if poisson and trigger_file is not None:
        raise InputError("--poisson and --trigger-file both say when queries come; give one of them")
    return "poisson" if poisson else None if trigger_file is None else "trigger"


def _gaps(trigger_file: Path) -> tuple[float, ...]:
    from edgevit.benchmarks import read_trigger_file

    return read_trigger_file(trigger_file)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--cpus {text}: wanted numbers with commas between them, such as 0,1") from None


def _checked(options: dict[str, Any]) -> Settings:
    """The settings, refused in the words of the command line.

    Raises:
        InputError: one makes no sense, or is for another scenario.
    """
    from edgevit.benchmarks import Settings

    settings = Settings(**options)
    for field, scenario in (("samples_per_query", "multi-stream"), ("period_ms", "paced"), ("arrivals", "paced")):
        if field in options and settings.scenario != scenario:
            wrong = {"poisson": "--poisson", "trigger": "--trigger-file"}.get(options[field], _FIELDS.get(field))
            raise InputError(f"{wrong} is for --scenario {scenario}, and this is {settings.scenario}")
    try:
        settings.validate()
    except InputError as error:
        raise InputError(re.sub(r"\w+", lambda word: _FIELDS.get(word[0], word[0]), str(error))) from None
    return settings


@contextmanager
def _kept(problems: list[EdgevitError]) -> Iterator[None]:
    """Keep an error for later: there are results to show first."""
    try:
        yield
    except EdgevitError as error:
        problems.append(error)
    except KeyboardInterrupt:
        problems.append(CheckFailed("interrupted while loadgen ran; what was measured before is whole"))


def _refuse_beside_compare(context: typer.Context) -> None:
    """Refuse what would be ignored, by its name."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name not in ("compare_files", "json") and source is not None and source.name == "COMMANDLINE":
            name = parameter.opts[0] if parameter.opts[0].startswith("--") else parameter.metavar
            raise InputError(f"--compare measures nothing and takes two files alone; leave {name} out")
