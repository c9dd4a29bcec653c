"""`edgevit calibrate`: thresholds for a budget or an accuracy, as a new bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgevit import api, console
from edgevit.commands.options import BundlePath, Json, numbers, setting

if TYPE_CHECKING:
    from rich.text import Text

    from edgevit.threshold_trial import TradeOff

__all__ = ["calibrate"]

_Data = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="A folder per class, or its parent; with --share or --patches any pictures."),
]
_Output = Annotated[Path, typer.Option("--output", metavar="DIR", help="The bundle to write.", show_default=False)]
_Share = Annotated[
    float | None,
    setting("--share", "X", "Mean patches after the first step, as a share of the present ones.", "by accuracy"),
]
_Patches = Annotated[
    str | None, setting("--patches", "N,N,...", "Mean patches of each step after the first.", "by accuracy")
]
_MinAccuracy = Annotated[
    float | None, setting("--min-accuracy", "X", "The cheapest setting this accurate, 0 to 1.", "the present accuracy")
]
_Samples = Annotated[int, typer.Option("--samples", metavar="N", help="How many pictures are looked at.")]
_Force = Annotated[bool, typer.Option("--force", help="Replace the bundle that is there.")]


def calibrate(
    bundle: BundlePath,
    data: _Data,
    output: _Output,
    share: _Share = None,
    patches: _Patches = None,
    min_accuracy: _MinAccuracy = None,
    samples: _Samples = 256,
    force: _Force = False,
    json: Json = False,
) -> None:
    """Set the thresholds of a bundle on pictures, in a new bundle.

    The table is the trade-off: what more and fewer patches cost and how they decide. Without a wish, the cheapest
    setting is taken that is no less accurate on these pictures than the present one.
    """
    with console.progress() as tell:
        result = api.calibrate(
            bundle,
            data,
            output=output,
            share=share,
            patches=None if patches is None else numbers(patches, "--patches", "64,16,4"),
            min_accuracy=min_accuracy,
            samples=samples,
            force=force,
            report=lambda done: tell(done, f"try {bundle.name}"),
        )
    if json:
        console.show_json(result)
        return
    labelled = result.present.accuracy is not None
    console.show_table(
        ("", ">patches a step", ">GFLOPs", *([">accuracy"] if labelled else []), ">decided alike"),
        [_row(point, result.present, result.chosen) for point in result.curve],
        title=f"{bundle} on {result.images} pictures of {result.data}",
    )
    console.show_line("")
    console.show_line(f"{result.bundle}: thresholds", ", ".join(f"{value:.4g}" for value in result.chosen.thresholds))
    if result.chosen.thresholds == result.present.thresholds:
        console.note("no setting is cheaper and as accurate: the thresholds are the present ones")
    else:
        given = ",".join(f"{value:.6g}" for value in result.chosen.thresholds)
        console.note(
            f"its rungs were not chosen for these; add --thresholds={given} --budgets auto --calibration-data DIR "
            "to the export for some that are"
        )


def _row(point: TradeOff, present: TradeOff, chosen: TradeOff) -> list[str | Text]:
    what = "present" if point is present else "" if point.share is None else f"{point.share:g} x"
    accuracy = [] if point.accuracy is None else [console.percent(point.accuracy)]
    return [
        console.good(f"{what} chosen".strip()) if point is chosen else what,
        ", ".join(f"{mean:.4g}" for mean in point.patches),
        f"{point.gflops:.3f}",
        *accuracy,
        console.percent(point.agreement),
    ]
