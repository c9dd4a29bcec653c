"""`edgevit eval`: how good a bundle or a checkpoint is, and how sure that can be said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgevit import api, console
from edgevit.commands.options import Data, Json, Runtime, Threads, setting

if TYPE_CHECKING:
    from edgevit.metrics import Evaluation

__all__ = ["evaluate", "show_evaluation"]

_Model = Annotated[Path, typer.Argument(metavar="BUNDLE|CHECKPOINT", help="A bundle, or a .safetensors checkpoint.")]
_Selection = Annotated[
    Literal["top-k", "threshold"] | None,
    setting("--selection", "top-k|threshold", "The rule of a checkpoint's router.", "top-k"),
]
_Confusion = Annotated[
    Path | None, typer.Option("--confusion", metavar="FILE.png", help="Draw the confusion matrix into this file.")
]


def evaluate(
    model: _Model,
    data: Data,
    runtime: Runtime = "auto",
    threads: Threads = None,
    selection: _Selection = None,
    confusion: _Confusion = None,
    json: Json = False,
) -> None:
    """Judge a bundle or a checkpoint on labelled pictures.

    Where DATA holds train/ and val/, it is val/ that counts. A bundle needs neither torch nor onnx.
    """
    with console.warnings_as_lines(), console.progress() as tell:
        result = api.evaluate(
            model,
            data,
            runtime=runtime,
            threads=threads,
            selection=selection,
            report=lambda done: tell(done, f"judge {model.name}"),
        )
    if confusion is not None:
        from edgevit.commands.pictures import write_png
        from edgevit.confusion_picture import confusion_picture

        write_png(confusion, confusion_picture(result.evaluation))
        console.note(f"confusion matrix in {confusion}")
    if json:
        console.show_json(result)
        return
    more = {}
    if result.mean_patches:
        more["patches"] = ", ".join(f"{mean:.4g}" for mean in result.mean_patches) + " at each step, on average"
    show_evaluation(result.evaluation, f"{result.model} on {result.data}", more)


def show_evaluation(evaluation: Evaluation, title: str, more: Mapping[str, str]) -> None:
    """Print what a classifier did: the whole with more facts beside it, then each class."""
    facts = {
        "images": str(evaluation.images),
        "accuracy": f"{console.percent(evaluation.accuracy)}   {_interval(evaluation.accuracy_interval)}",
        "balanced accuracy": console.percent(evaluation.balanced_accuracy),
    }
    if evaluation.auroc is not None:
        facts["AUROC"] = f"{evaluation.auroc:.4f}"
    console.show_facts({**facts, **more}, title)
    console.show_line("")
    console.show_table(
        ("class", ">images", ">recall", f"{evaluation.confidence:.0%} interval".replace("%", " %"), "mistaken for"),
        [
            (
                label,
                str(support),
                "-" if recall is None else console.percent(recall),
                _interval(interval),
                _mistaken(evaluation, row),
            )
            for row, (label, support, recall, interval) in enumerate(
                zip(evaluation.labels, evaluation.support, evaluation.recall, evaluation.recall_intervals, strict=True)
            )
        ],
    )


def _interval(interval: tuple[float, float]) -> str:
    return f"{console.percent(interval[0])} to {console.percent(interval[1])}"


def _mistaken(evaluation: Evaluation, row: int) -> str:
    """What pictures of one class were taken for, the most frequent first."""
    wrong = [(count, label) for label, count in zip(evaluation.labels, evaluation.confusion[row], strict=True) if count]
    return ", ".join(
        f"{label} {count}" for count, label in sorted(wrong, reverse=True) if label != evaluation.labels[row]
    )
