"""`edgevit predict`: what a bundle says of pictures, and where it looked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgevit import api, console
from edgevit.commands.options import BundlePath, Json, Runtime, Threads
from edgevit.errors import InputError

if TYPE_CHECKING:
    from edgevit.preprocess import Preprocess
    from edgevit.runtimes.prediction import Prediction
    from edgevit.runtimes.session import Session

__all__ = ["predict"]

_Images = Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files, or folders of them.")]
_Overlay = Annotated[
    Path | None,
    typer.Option(
        "--overlay",
        metavar="DIR",
        help="Draw the depth of each patch, or the tokens it was merged into, over each picture, into this folder.",
    ),
]


def predict(
    bundle: BundlePath,
    images: _Images,
    overlay: _Overlay = None,
    runtime: Runtime = "auto",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Label pictures, and show where the model looked.

    A picture that cannot be read is named and left out, and the exit status is 2.
    """
    if overlay is not None:
        _check_overlay(overlay, images)
    files = _files(images)
    answers: list[Prediction | InputError] = []
    with console.warnings_as_lines(), api.load(bundle, runtime, threads) as session, console.progress() as tell:
        batch, preprocess = session.bundle.manifest.input.shape[0], session.bundle.manifest.preprocess
        for start in range(0, len(files), batch):
            tell(start / len(files), files[start].name)
            answers += _answers(session, files[start : start + batch])
    refused = [answer for answer in answers if isinstance(answer, InputError)]
    if len(refused) == len(files) == 1:
        raise refused[0]
    for error in refused:
        console.note(f"left out: {error}")
    answered = [(file, one) for file, one in zip(files, answers, strict=True) if not isinstance(one, InputError)]
    labelled, predictions = [file for file, _ in answered], [prediction for _, prediction in answered]
    if overlay is not None:
        _draw(labelled, predictions, preprocess, overlay)
    if json:
        console.show_json([prediction.to_dict() for prediction in predictions])
    elif predictions:
        _show(labelled, predictions)
    if overlay is not None and predictions:
        console.note(f"overlays in {overlay}")
    if refused:
        raise InputError(f"{len(refused)} of {len(files)} pictures were left out, as said above; mend or remove them")


def _check_overlay(overlay: Path, images: Sequence[Path]) -> None:
    """Refuse a folder for drawings whose pictures are read: the next run would take the drawings for pictures."""
    place = overlay.resolve()
    for folder in (image.resolve() for image in images if image.is_dir()):
        if folder == place or folder in place.parents:
            raise InputError(f"--overlay {overlay}: lies in {folder}, whose pictures are read; give a folder outside")


def _files(images: Sequence[Path]) -> list[Path]:
    from edgevit.image_folder import list_images

    return [file for image in images for file in (list_images(image) if image.is_dir() else [image])]


def _answers(session: Session, files: Sequence[Path]) -> list[Prediction | InputError]:
    """The answer for each picture of a batch, or what is wrong with it: a bad one keeps no other back."""
    try:
        return [*session.predict(list(files))]
    except InputError as error:
        if len(files) == 1:
            return [error]
        return [answer for file in files for answer in _answers(session, [file])]


def _draw(files: Sequence[Path], predictions: Sequence[Prediction], preprocess: Preprocess, folder: Path) -> None:
    """Write an overlay for each picture, named after it."""
    from edgevit.commands.pictures import names_beside, write_png
    from edgevit.preprocess import open_image
    from edgevit.runtimes.merging_overlay import draw_traces

    routed, merged = _traced(predictions)
    drawn = "trace" if routed and merged else "tokens" if merged else "depth"
    for file, name, prediction in zip(files, names_beside(files, drawn, folder), predictions, strict=True):
        seen = preprocess.resized(file) if preprocess.resize == "crop" else open_image(file)
        overlay = draw_traces(seen, prediction.routing, prediction.merging)
        if overlay is None:
            raise InputError(
                "--overlay needs a trace of routing or merging and this bundle gives none; "
                "export a model that routes or merges, with --trace"
            )
        write_png(folder / name, overlay)


def _traced(predictions: Sequence[Prediction]) -> tuple[bool, bool]:
    """Whether routing, and whether merging, left a trace."""
    routed = any(prediction.routing is not None for prediction in predictions)
    return routed, any(prediction.merging is not None for prediction in predictions)


def _show(files: Sequence[Path], predictions: Sequence[Prediction]) -> None:
    routed, merged = _traced(predictions)
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        names = [str(file) for file in files]
    rows = []
    for name, prediction in zip(names, predictions, strict=True):
        row = [name, prediction.label, f"{prediction.score:.3f}", console.milliseconds(prediction.timings.total_ns)]
        if prediction.routing is not None:
            row.append(" ".join(map(str, prediction.routing.counts)))
        if prediction.merging is not None:
            row.append(f"{prediction.merging.tokens[-1]} of {prediction.merging.assignment.size}")
        rows.append(row)
    steps = ["tokens at each step" if merged else "patches at each step"] * routed
    console.show_table(["image", "label", ">score", ">ms", *steps] + ["tokens left"] * merged, rows)
