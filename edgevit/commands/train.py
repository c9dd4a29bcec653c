"""`edgevit train`: pictures to a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgevit import api, console
from edgevit.commands.evaluate import show_evaluation
from edgevit.commands.options import Data, Json, given, numbers, setting

if TYPE_CHECKING:
    from edgevit.training.loop import Progress

__all__ = ["train"]

_Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A name of `edgevit list models`, timm/NAME, or one reduced: ltm/NAME."),
]
_Output = Annotated[Path | None, setting("--output", "DIR", "Folder of the run.", "runs/MODEL")]
_Epochs = Annotated[int | None, setting("--epochs", "N", "Passes over the pictures.", "50")]
_BatchSize = Annotated[int | None, setting("--batch-size", "N", "Pictures a step, over all processes.", "32")]
_LearningRate = Annotated[float | None, setting("--learning-rate", "X", "Peak rate of AdamW.", "0.001")]
_WeightDecay = Annotated[float | None, setting("--weight-decay", "X", "Of AdamW, on matrices alone.", "0.05")]
_Warmup = Annotated[float | None, setting("--warmup-epochs", "X", "Epochs of linear warm-up.", "5")]
_Smoothing = Annotated[float | None, setting("--label-smoothing", "X", "Target spread over all classes.", "0.1")]
_ClassWeight = Annotated[
    float | None, setting("--class-weight-power", "X", "Classes weigh their frequency to minus this.", "0.5")
]
_Ema = Annotated[float | None, setting("--ema-decay", "X", "Of the averaged weights, which are kept.", "0.99")]
_Seed = Annotated[int | None, setting("--seed", "N", "Of weights, order, augmentation and split.", "0")]
_ValEvery = Annotated[int | None, setting("--val-every", "N", "Epochs between validations.", "5")]
_ValShare = Annotated[float, typer.Option("--val-share", metavar="X", help="Share to hold out where DATA has no val/.")]
_RunLength = Annotated[int, typer.Option("--run-length", metavar="N", help="Neighbouring files held out together.")]
_LayerDecay = Annotated[
    float | None, setting("--layer-decay", "X", "A layer's rate is this times that of the next.", "1")
]
_FreezeStem = Annotated[
    bool, typer.Option("--freeze-stem", help="Keep all before the first block as it is: patches, positions, CLS.")
]
_IbWeight = Annotated[
    float | None,
    setting("--ib-weight", "X", "Of the information bottleneck of a reduced model.", "0.1 for ltm/NAME, 0 for others"),
]
_IbAfter = Annotated[
    float | None, setting("--ib-after", "X", "Share of the epochs before the bottleneck counts.", "0.3")
]
_SharedBudget = Annotated[
    bool,
    typer.Option(
        "--shared-budget", help="Let the pictures of a batch share each step's patches, for a model run by threshold."
    ),
]
_Capacities = Annotated[
    str | None, setting("--capacities", "X,X,...", "Share of the patches that each step takes.", "the model's")
]
_Schedule = Annotated[
    str | None, setting("--schedule", "TEXT", "What a reduced model reduces where.", "that of --init, or the method's")
]
_Init = Annotated[
    Path | None,
    typer.Option("--init", metavar="FILE", help="Weights to start from; other classes get a new head."),
]
_Teacher = Annotated[
    Path | None, typer.Option("--teacher", metavar="FILE", help="Checkpoint whose answers are to be met too.")
]
_Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --output, to the same result.")]
_Calibrate = Annotated[
    bool, typer.Option("--calibrate", help="At the end, set the router's thresholds on the training pictures.")
]


def train(
    model: _Model,
    data: Data,
    output: _Output = None,
    epochs: _Epochs = None,
    batch_size: _BatchSize = None,
    learning_rate: _LearningRate = None,
    weight_decay: _WeightDecay = None,
    warmup_epochs: _Warmup = None,
    label_smoothing: _Smoothing = None,
    class_weight_power: _ClassWeight = None,
    ema_decay: _Ema = None,
    seed: _Seed = None,
    val_every: _ValEvery = None,
    layer_decay: _LayerDecay = None,
    freeze_stem: _FreezeStem = False,
    shared_budget: _SharedBudget = False,
    capacities: _Capacities = None,
    ib_weight: _IbWeight = None,
    ib_after: _IbAfter = None,
    val_share: _ValShare = 0.2,
    run_length: _RunLength = 8,
    schedule: _Schedule = None,
    init: _Init = None,
    teacher: _Teacher = None,
    resume: _Resume = False,
    calibrate: _Calibrate = False,
    json: Json = False,
) -> None:
    """Train a model on a folder per class.

    The run's folder gets checkpoint.safetensors, metrics.json and, after every epoch, the state that --resume goes on
    from. Under torchrun the processes share each batch.
    """
    settings = given(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup_epochs=warmup_epochs,
        label_smoothing=label_smoothing,
        class_weight_power=class_weight_power,
        ema_decay=ema_decay,
        seed=seed,
        val_every=val_every,
        layer_decay=layer_decay,
        freeze_stem=freeze_stem or None,
        shared_budget=shared_budget or None,
        capacities=None if capacities is None else numbers(capacities, "--capacities", "1,0.25,0.125"),
        ib_weight=ib_weight,
        ib_after=ib_after,
        schedule=schedule,
        teacher=teacher,
    )
    with console.progress() as tell:
        tell(0.0, "read the pictures")
        accuracy = ""

        def report(done: float, at: Progress) -> None:
            nonlocal accuracy
            if at.val_accuracy is not None:
                accuracy = f" · val {console.percent(at.val_accuracy)}"
            tell(done, f"epoch {at.epoch + 1} · loss {at.loss:.3f}{accuracy}")

        trained = api.train_model(
            model,
            data,
            output=output or Path("runs") / model,
            initial=init,
            resume=resume,
            calibrate=calibrate,
            val_share=val_share,
            run_length=run_length,
            report=report,
            **settings,
        )
    if os.environ.get("RANK", "0") != "0":
        return  # under torchrun the first process speaks for all
    if json:
        console.show_json(trained)
        return
    more = {"checkpoint": str(trained.checkpoint)}
    if trained.thresholds is not None:
        more["thresholds"] = ", ".join(f"{value:.4g}" for value in trained.thresholds)
    for what, names in (("new weights", trained.fresh), ("left as they were", trained.frozen)):
        if names:
            more[what] = ", ".join(names)
    show_evaluation(trained.evaluation, f"{model} on what was held out of {data}", more)
