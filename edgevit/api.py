"""What `import edgevit` offers: the steps from a model to a verdict, each one call.

With `evaluating.py`, `measuring.py`, `cli.py` and its commands this composes models, training, export, runtimes and
benchmarks, which do not know each other. Everything heavy is imported by the function that needs it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.calibrating import Calibration, calibrate
from edgevit.errors import EdgevitError, InputError
from edgevit.evaluating import FolderEvaluation, evaluate
from edgevit.extras import needs
from edgevit.measuring import check_loadgen, measure

if TYPE_CHECKING:
    from torch import nn  # noqa: TID251 - for the type checker alone

    from edgevit.bundle import Bundle
    from edgevit.parity import Parity
    from edgevit.preprocess import Preprocess
    from edgevit.runtimes.session import Session
    from edgevit.training.loop import Progress as TrainingProgress
    from edgevit.training.run import Trained

__all__ = [
    "Calibration",
    "EdgevitError",
    "FolderEvaluation",
    "calibrate",
    "check_loadgen",
    "evaluate",
    "export_model",
    "load",
    "measure",
    "train_model",
    "verify_bundle",
]


def export_model(
    model: str | nn.Module,
    *,
    output: str | Path,
    checkpoint: str | Path | None = None,
    num_classes: int | None = None,
    input_size: int | None = None,
    schedule: str | None = None,
    labels: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    force: bool = False,
    report: Callable[[str], None] | None = None,
    note: Callable[[str], None] | None = None,
    **settings: Any,
) -> Bundle:
    """Export a model: a graph of static shapes, proved equal to its source, in a bundle.

    Args:
        model: a name of `edgevit list models`, `timm/NAME`, one reduced (`tome/NAME` and so on),
            `package.module:function`, or a module that maps B x 3 x H x W float32 to logits B x C.
        output: the folder to write; it appears whole or not at all.
        checkpoint: weights in place of those that ship, .safetensors or for timm's models .pth; with a name only.
        num_classes: C, checked against the model.
        input_size: H = W in pixels, where the model does not say.
        schedule: what a reduced model (`tome/NAME` and so on) reduces where, as text; see `edgevit export --help`.
        labels: C class names, in place of the model's.
        preprocess: from a picture to the input, in place of the model's.
        force: replace the bundle at `output`.
        report: told each step as it begins.
        note: told, a line each, what was decided for the caller: weights that were in no file and are random,
            thresholds that nobody calibrated.
        **settings: fields of `edgevit.export.settings.ExportSettings`, which states their units and defaults:
            `target`, `routing`, `selection`, `thresholds`, `budgets`, `calibration_data`, `calibration_samples`,
            `precision`, `opset`, `batch_size`, `simplify`, `trace`, `verify`, `atol`, `rtol`.

    Raises:
        InputError: the model, its checkpoint and the settings do not fit each other; `output` exists; the model cannot
            be traced.
        CheckFailed: the graph breaks a rule or answers differently from its source; nothing is written then.
        MissingExtra: torch, onnx or onnxruntime is not installed.
    """
    from edgevit.runtimes.adaptive import AdaptiveRunner
    from edgevit.runtimes.ort import OrtRunner

    with needs("export"):
        from edgevit.export.pipeline import export_bundle
        from edgevit.export.settings import ExportSettings
        from edgevit.models.opening import open_model
        from edgevit.models.source import source_of

    asked = ExportSettings(**settings)
    if isinstance(model, str):
        path = None if checkpoint is None else Path(checkpoint)
        source = open_model(model, checkpoint=path, num_classes=num_classes, input_size=input_size, schedule=schedule)
    else:
        if schedule is not None:
            raise InputError("a schedule goes with a model's name; build the module with it before exporting that")
        if checkpoint is not None:
            raise InputError("a checkpoint goes with a model's name; load it into the module before exporting that")
        # A copy, since exporting somebody's module must not take it out of training mode or off its device.
        module = copy.deepcopy(model).cpu()
        source = source_of(type(model).__name__, module, num_classes=num_classes, input_size=input_size)
    if note is not None and source.fresh:
        shown = ", ".join(source.fresh[:4]) + (" and more" if len(source.fresh) > 4 else "")
        note(f"{len(source.fresh)} weights of {source.name} were in no file and are random ({shown}); train it first")
    if labels is not None:
        if len(labels) != len(source.labels):
            raise InputError(f"got {len(labels)} labels for {len(source.labels)} classes; give one a class")
        source = replace(source, labels=tuple(labels))
    if preprocess is not None:
        source = replace(source, preprocess=preprocess)
    return export_bundle(
        source,
        asked,
        Path(output),
        open_graph=OrtRunner,
        open_stages=AdaptiveRunner,
        force=force,
        report=report,
        note=note,
    )


def load(
    bundle: str | Path | Bundle,
    runtime: str = "auto",
    threads: int | None = None,
    *,
    deadline_ms: float | None = None,
    min_tokens: int = 0,
    rebuild: bool = False,
) -> Session:
    """Load a bundle, ready to predict.

        with edgevit.load("d/topk") as session:
            print(session.predict("part.png").label)

    Args:
        bundle: a folder that an export wrote.
        runtime: a name of `edgevit list runtimes`; `auto` takes the best for its target that works here, and a
            `FallbackWarning` says why a better one does not. `Session.health()` has it all.
        threads: CPU threads; the runtime's own choice by default.
        deadline_ms: milliseconds that a call of `predict` with as many pictures as the graph takes may last, on the
            curve that `edgevit bench --curve` measured here. A prediction that lost tokens for it is `truncated`.
        min_tokens: with a deadline, the fewest tokens that a step which wants them is held to.
        rebuild: whether an engine that is missing or fits no more is built first, which takes minutes.

    Raises:
        InputError: no bundle, a damaged one, or one this runtime cannot load; a deadline that cannot be kept, or that
            nothing was measured for.
        MissingExtra: the runtime's library is not installed.
    """
    from edgevit.runtimes import session

    build: Callable[[Bundle, str], object] | None = None
    if rebuild:  # else nothing of the builder is imported on a device
        from edgevit.building import rebuild_engines

        build = rebuild_engines

    return session.load(
        bundle,
        runtime=runtime,
        threads=threads,
        deadline_ms=deadline_ms,
        min_tokens=min_tokens,
        rebuild=build,
    )


def verify_bundle(
    bundle: str | Path,
    *,
    runtime: str = "auto",
    threads: int | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    report: Callable[[float], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Parity:
    """Check every hash of a bundle, then its answers on this machine against the reference stored in it.

    Needs neither torch nor onnx.

    Args:
        bundle: a folder that an export wrote.
        runtime: a name of `edgevit list runtimes`.
        threads: CPU threads; the runtime's own choice by default.
        atol: absolute tolerance on logits; by default the one it was exported with. A lower precision is judged by
            its standard (`edgevit.agreement`) and takes none.
        rtol: the same relative to the reference's logit.
        report: told the share done, 0 to 1.
        note: told in one line if this runtime computes in another precision than the graph says.

    Returns:
        What was found; `passed` says whether it answers as its source does.

    Raises:
        InputError: no bundle, a damaged one, or one this runtime cannot load; a tolerance for a lower precision.
        MissingExtra: the runtime's library is not installed.
    """
    from edgevit.agreement import agree
    from edgevit.bundle import Bundle
    from edgevit.export.settings import ExportSettings
    from edgevit.parity import Golden, compare
    from edgevit.runtimes.choose import open_runner
    from edgevit.runtimes.fallback import computed_in

    opened = Bundle.open(bundle)
    if opened.manifest.precision_achieved != "fp32" and (atol is not None or rtol is not None):
        raise InputError(
            f"{opened.path}: is in {opened.manifest.precision_achieved} and judged by shares of decisions and tokens; "
            "leave --atol and --rtol out"
        )
    opened.verify_files()
    golden = Golden.from_arrays(opened.golden())
    asked = opened.manifest.parity or ExportSettings()

    def count(done: int) -> None:
        if report is not None:
            report(done / len(golden.images))

    merged = opened.manifest.reduction
    tokens = merged.tokens[-1] if merged is not None else None
    precision = opened.manifest.precision_achieved
    with open_runner(opened, runtime, threads=threads) as runner:
        otherwise = computed_in(opened.manifest, runner.facts)
        if otherwise is not None and note is not None:
            note(
                f"{opened.path}: this runtime computes its {precision} graph in {otherwise}: that proves no {precision}"
            )
        if precision != "fp32":
            return agree(golden, runner, precision, count, tokens=tokens)
        return compare(
            golden,
            runner,
            asked.atol if atol is None else atol,
            asked.rtol if rtol is None else rtol,
            count,
            tokens=tokens,
        )


def train_model(
    model: str,
    data: str | Path,
    *,
    output: str | Path,
    initial: str | Path | None = None,
    schedule: str | None = None,
    capacities: Sequence[float] | None = None,
    teacher: str | Path | None = None,
    resume: bool = False,
    calibrate: bool = False,
    val_share: float = 0.2,
    run_length: int = 8,
    report: Callable[[float, TrainingProgress], None] | None = None,
    **settings: Any,
) -> Trained:
    """Train a model on a folder per class.

    The classes of the folder become the model's. Under torchrun every process calls this and the first one writes.

    Args:
        model: a name of `edgevit list models`, `timm/NAME`, or one reduced (`ltm/NAME`), for its architecture.
        data: `train` and `val`, or one folder per class to be split.
        output: the folder of the run: `checkpoint.safetensors`, `metrics.json`, and the state to resume from.
        initial: a checkpoint of the same architecture to start from, for a reduced model also one of the plain model,
            for one of timm's also its plain weights; its head is kept where the classes are the same.
        schedule: what a reduced model reduces where, as text; that of `initial` or the method's by default.
        capacities: share of the patches that each step takes, in place of the model's.
        teacher: a checkpoint of the same classes whose answers are to be met too.
        resume: go on with the run in `output`, to the same result as if it had never stopped.
        calibrate: afterwards set the router's thresholds on the training pictures and keep them in the checkpoint.
        val_share: share of each class to hold out where there is no `val`.
        run_length: neighbouring files that go to one side of that split together.
        report: called after every step with the share of the run that is done.
        **settings: fields of `edgevit.training.settings.TrainSettings`, which states their units and defaults.

    Raises:
        InputError: model, data and settings do not fit each other; `output` holds a run and `resume` is off.
        MissingExtra: torch is not installed.
    """
    with needs("train"):
        from edgevit.training.run import train_on_folder
        from edgevit.training.settings import TrainSettings

    return train_on_folder(
        model,
        Path(data),
        TrainSettings(**settings),
        Path(output),
        initial=None if initial is None else Path(initial),
        schedule=schedule,
        capacities=None if capacities is None else tuple(capacities),
        teacher=None if teacher is None else Path(teacher),
        resume=resume,
        calibrate=calibrate,
        val_share=val_share,
        run_length=run_length,
        report=report,
    )
