"""`edgevit bench --autotune`: the fastest way to run a bundle here, kept beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgevit import console
from edgevit.errors import InputError
from edgevit.strict_json import plain

if TYPE_CHECKING:
    from edgevit.tuning import Tuning
    from edgevit.tuning_record import Trial

__all__ = ["Autotune", "autotune"]

Autotune = Annotated[
    bool,
    typer.Option("--autotune", help="Find the fastest runtime and threads here, and keep them for edgevit.load."),
]

_TAKEN = ("bundles", "autotuned", "data", "json")


def autotune(context: typer.Context, bundles: Sequence[Path] | None, *, data: Path | None, as_json: bool) -> None:
    """Tune bundles in turn, and show what was found.

    Args:
        context: of the command line, for what else was given.
        bundles: to tune.
        data: a folder of images to time; the golden samples by default.
        as_json: print the records alone.

    Raises:
        InputError: an option that says what autotuning finds out, or no bundle.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name not in _TAKEN and source is not None and source.name == "COMMANDLINE":
            name = parameter.opts[0]
            raise InputError(f"--autotune tries runtimes and threads itself and takes --data alone; leave {name} out")
    if not bundles:
        raise InputError("missing argument 'BUNDLE'; give one or more bundles to --autotune")
    from edgevit import tuning  # help needs no numpy

    found: list[tuple[Path, Tuning]] = []
    with console.progress() as tell:
        for number, bundle in enumerate(bundles):

            def say(done: float, doing: str, number: int = number, bundle: Path = bundle) -> None:
                tell((number + done) / len(bundles), f"{bundle.name}: {doing}")

            found.append((bundle, tuning.tune(bundle, data=data, tell=say)))
    if as_json:
        console.show_json([_to_dict(bundle, one) for bundle, one in found])
        return
    for bundle, one in found:
        _show(bundle, one)


def _to_dict(bundle: Path, tuning: Tuning) -> dict[str, object]:
    record = tuning.record
    faster = record.decision is not None and record.decision.faster
    return {
        "bundle": str(bundle),
        "file": str(tuning.path),
        "winner": plain(record.winner),
        "faster": faster,
        "record": plain(record),
    }


def _show(bundle: Path, tuning: Tuning) -> None:
    record = tuning.record
    rows = [(str(trial.choice), *_cells(trial)) for trial in record.trials]
    title = f"{bundle}: milliseconds a query, ratio to {record.default}"
    console.show_table(("choice", "median", "ratio", "answers"), rows, title=title)
    decision = record.decision
    if decision is None:
        console.show_line(f"nothing was faster than {record.default}, which stays")
    elif decision.faster:
        text = f"is taken: {decision.ratio} of {record.default}, measured again by itself"
        console.show_line(console.good(str(decision.challenger)), text)
    else:
        console.show_line(
            console.caution(str(record.default)),
            f"stays: {decision.challenger} is {decision.ratio} of it, measured again by itself, where two processes of "
            f"one choice differ by {decision.floor:.3f}",
        )
    console.show_line(f"kept in {tuning.path}")


def _cells(trial: Trial) -> tuple[str, str, str]:
    median = "" if trial.median_ms is None else f"{trial.median_ms:.3f}"
    ratio = "" if trial.ratio is None else str(trial.ratio)
    return median, ratio, "as the reference" if trial.refused is None else trial.refused
