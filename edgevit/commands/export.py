"""`edgevit export`: a model to a verified bundle."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from edgevit import api, console
from edgevit.commands.info import bundle_record, show_bundle
from edgevit.commands.options import Json, given, numbers, setting
from edgevit.errors import InputError

__all__ = ["export"]

_Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name of `edgevit list models`, timm/NAME, tome/NAME and so on, or package.module:function.",
    ),
]
_Output = Annotated[Path | None, setting("--output", "DIR", "The bundle to write.", "MODEL-TARGET")]
_Target = Annotated[str | None, setting("--target", "NAME", "A name of `edgevit list targets`.", "cpu-x86")]
_Routing = Annotated[
    str | None,
    setting("--routing", "dense|mask|topk|adaptive", "How the graph routes tokens.", "as router and target ask"),
]
_Selection = Annotated[
    str | None, setting("--selection", "top-k|threshold", "Which tokens a step takes under mask.", "top-k")
]
_Thresholds = Annotated[
    str | None,
    setting("--thresholds", "X,X,...", "Router logits to exceed, a step after the first each.", "the model's, or 0"),
]
_Budgets = Annotated[
    str | None,
    setting("--budgets", "auto|N,N,...", "Token counts that adaptive chooses from.", "0, N/16, N/4 and all N"),
]
_CalibrationData = Annotated[
    Path | None, setting("--calibration-data", "DIR", "Images that rungs and ranges are chosen by.", "none")
]
_CalibrationSamples = Annotated[
    int | None, setting("--calibration-samples", "N", "How many of them are looked at.", "128")
]
_Precision = Annotated[str | None, setting("--precision", "fp32|fp16|bf16|int8", "Precision of the graph.", "fp32")]
_Checkpoint = Annotated[
    Path | None, setting("--checkpoint", "FILE", "Weights (.safetensors; .pth for timm's).", "those that ship")
]
_Classes = Annotated[int | None, setting("--num-classes", "N", "Classes of the head.", "the weights'")]
_Schedule = Annotated[
    str | None,
    setting(
        "--schedule", "TEXT", "What tome/NAME, ltm/NAME and so on reduce where: 13; 0.7; 3:128,7:64.", "the method's"
    ),
]
_InputSize = Annotated[int | None, setting("--input-size", "N", "Pixels a side.", "the model's")]
_BatchSize = Annotated[int | None, setting("--batch-size", "N", "Images of one run, a constant.", "1")]
_Opset = Annotated[int | None, setting("--opset", "N", "ONNX opset.", "the target's")]
_Simplify = Annotated[
    bool | None, setting("--simplify/--no-simplify", "", "Let onnxsim shorten the graph.", "simplify")
]
_Trace = Annotated[bool | None, setting("--trace/--no-trace", "", "Give each patch's depth as outputs.", "trace")]
_Verify = Annotated[bool | None, setting("--verify/--no-verify", "", "Compare the graph with its source.", "verify")]
_Atol = Annotated[float | None, setting("--atol", "X", "Absolute tolerance on logits.", "0.0001")]
_Rtol = Annotated[float | None, setting("--rtol", "X", "Tolerance relative to a logit.", "0.0001")]
_Force = Annotated[bool, typer.Option("--force", help="Replace the bundle that is there.")]

# Where each step begins, as a share of the whole: tracing is most of it, whatever the model.
_BEGINS = {
    "trace": 0.2,
    "fold constants": 0.75,
    "simplify": 0.78,
    "build the ladders": 0.8,
    "build the stages": 0.8,
    "check": 0.82,
    "verify": 0.83,
    "lower": 0.87,
    "write the bundle": 0.98,
}


def export(
    model: _Model,
    output: _Output = None,
    target: _Target = None,
    routing: _Routing = None,
    selection: _Selection = None,
    thresholds: _Thresholds = None,
    budgets: _Budgets = None,
    precision: _Precision = None,
    calibration_data: _CalibrationData = None,
    calibration_samples: _CalibrationSamples = None,
    checkpoint: _Checkpoint = None,
    num_classes: _Classes = None,
    input_size: _InputSize = None,
    schedule: _Schedule = None,
    batch_size: _BatchSize = None,
    opset: _Opset = None,
    simplify: _Simplify = None,
    trace: _Trace = None,
    verify: _Verify = None,
    atol: _Atol = None,
    rtol: _Rtol = None,
    force: _Force = False,
    json: Json = False,
) -> None:
    """Export a model to a verified bundle.

    The model is traced into a graph of static shapes, which is run and compared with its source: logits, decisions and
    the tokens of every step. Only a graph that passes becomes a bundle.
    """
    if ":" in model:
        sys.path.append(os.getcwd())  # where somebody's own module lies; last, so that it hides nothing installed
    settings = given(
        target=target,
        routing=routing,
        selection=selection,
        thresholds=None if thresholds is None else numbers(thresholds, "--thresholds", "-0.5,0,0.25"),
        budgets=None if budgets is None else _rungs(budgets),
        precision=precision,
        calibration_data=calibration_data,
        calibration_samples=calibration_samples,
        batch_size=batch_size,
        opset=opset,
        simplify=simplify,
        trace=trace,
        verify=verify,
        atol=atol,
        rtol=rtol,
    )
    if output is None:
        from edgevit.export.settings import ExportSettings

        output = Path(f"{model.replace(':', '.').replace('/', '-')}-{target or ExportSettings().target}")
    notes: list[str] = []
    with console.progress() as tell:
        tell(0.0, "load the model")
        bundle = api.export_model(
            model,
            output=output,
            checkpoint=checkpoint,
            num_classes=num_classes,
            input_size=input_size,
            schedule=schedule,
            force=force,
            report=lambda step: tell(_BEGINS.get(step.partition(" to ")[0], 0.9), step),
            note=notes.append,
            **settings,
        )
    for line in notes:
        console.note(line)
    if json:
        console.show_json(bundle_record(bundle))
    else:
        show_bundle(bundle)


def _rungs(text: str) -> tuple[int, ...] | Literal["auto"]:
    """`auto`, or numbers of patches separated by commas.

    Raises:
        InputError: it is neither.
    """
    if text == "auto":
        return "auto"
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise InputError(f"--budgets {text}; wanted auto, or numbers of patches such as 0,16,64,256") from None
