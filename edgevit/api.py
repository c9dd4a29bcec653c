"""What `import edgevit` offers: the steps from a model to a verdict, each one call.

With `cli.py` and its commands this is the one module that composes models, training, export, runtimes and benchmarks,
which do not know each other. Everything heavy is imported by the function that needs it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgevit.errors import InputError
from edgevit.extras import needs

if TYPE_CHECKING:
    import numpy as np
    from torch import nn  # noqa: TID251 - for the type checker alone

    from edgevit.benchmarks import Candidate, LoadgenCheck, Measurement, Progress
    from edgevit.bundle import Bundle
    from edgevit.image_folder import ImageFolder
    from edgevit.metrics import Evaluation
    from edgevit.parity import Parity
    from edgevit.preprocess import Preprocess
    from edgevit.runtimes.session import Session
    from edgevit.spec import Selection
    from edgevit.training.answers import AnswerAll
    from edgevit.training.loop import Progress as TrainingProgress
    from edgevit.training.run import Trained

__all__ = [
    "FolderEvaluation",
    "candidate_names",
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
    **settings: Any,
) -> Bundle:
    """Export a model: a graph of static shapes, proved equal to its source, in a bundle.

    Args:
        model: a name of `edgevit list models`, `package.module:function`, or a module that maps B x 3 x H x W
            float32 to logits B x C.
        output: the folder to write; it appears whole or not at all.
        checkpoint: weights (.safetensors) in place of those that ship; with a name only.
        num_classes: C, checked against the model.
        input_size: H = W in pixels, where the model does not say.
        schedule: what a reduced model (`tome/NAME` and so on) reduces where, as text; see `edgevit export --help`.
        labels: C class names, in place of the model's.
        preprocess: from a picture to the input, in place of the model's.
        force: replace the bundle at `output`.
        report: told each step as it begins.
        **settings: fields of `edgevit.export.settings.ExportSettings`, which states their units and defaults:
            `target`, `routing`, `selection`, `budgets`, `calibration_data`, `calibration_samples`, `precision`,
            `opset`, `batch_size`, `simplify`, `trace`, `verify`, `atol`, `rtol`.

    Raises:
        InputError: the model, its checkpoint and the settings do not fit each other; `output` exists; the model cannot
            be traced.
        CheckFailed: the graph breaks a rule or answers differently from its source; nothing is written then.
        MissingExtra: torch, onnx or onnxruntime is not installed.
    """
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
    if labels is not None:
        if len(labels) != len(source.labels):
            raise InputError(f"got {len(labels)} labels for {len(source.labels)} classes; give one a class")
        source = replace(source, labels=tuple(labels))
    if preprocess is not None:
        source = replace(source, preprocess=preprocess)
    return export_bundle(source, asked, Path(output), open_graph=OrtRunner, force=force, report=report)


def load(bundle: str | Path | Bundle, runtime: str = "auto", threads: int | None = None) -> Session:
    """Load a bundle, ready to predict.

        with edgevit.load("d/topk") as session:
            print(session.predict("part.png").label)

    Args:
        bundle: a folder that an export wrote.
        runtime: a name of `edgevit list runtimes`; `auto` takes the one its target is for.
        threads: CPU threads; the runtime's own choice by default.

    Raises:
        InputError: no bundle, a damaged one, or one this runtime cannot load.
        MissingExtra: the runtime's library is not installed.
    """
    from edgevit.runtimes import session

    return session.load(bundle, runtime=runtime, threads=threads)


def verify_bundle(
    bundle: str | Path,
    *,
    runtime: str = "auto",
    threads: int | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    report: Callable[[float], None] | None = None,
) -> Parity:
    """Check every hash of a bundle, then its answers on this machine against the reference stored in it.

    Needs neither torch nor onnx.

    Args:
        bundle: a folder that an export wrote.
        runtime: a name of `edgevit list runtimes`.
        threads: CPU threads; the runtime's own choice by default.
        atol: absolute tolerance on logits; by default the one it was exported with.
        rtol: the same relative to the reference's logit.
        report: told the share done, 0 to 1.

    Returns:
        What was found; `passed` says whether it answers as its source does.

    Raises:
        InputError: no bundle, a damaged one, or one this runtime cannot load.
        MissingExtra: the runtime's library is not installed.
    """
    from edgevit.bundle import Bundle
    from edgevit.export.settings import ExportSettings
    from edgevit.parity import Golden, compare
    from edgevit.runtimes.choose import open_runner

    opened = Bundle.open(bundle)
    opened.verify_files()
    golden = Golden.from_arrays(opened.golden())
    asked = opened.manifest.parity or ExportSettings()

    def count(done: int) -> None:
        if report is not None:
            report(done / len(golden.images))

    with open_runner(opened, runtime, threads=threads) as runner:
        return compare(
            golden,
            runner,
            asked.atol if atol is None else atol,
            asked.rtol if rtol is None else rtol,
            count,
            tokens=opened.manifest.reduction.tokens[-1] if opened.manifest.reduction is not None else None,
        )


@dataclass(frozen=True, kw_only=True)
class FolderEvaluation:
    """What a model did on a labelled folder.

    Attributes:
        model: the bundle or checkpoint.
        data: the folder that was read.
        evaluation: accuracy and the rest.
        mean_patches: mean number of patches that each recursion step took; empty without routing or its trace.
    """

    model: str
    data: str
    evaluation: Evaluation
    mean_patches: tuple[float, ...]


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    runtime: str = "auto",
    threads: int | None = None,
    selection: Selection | None = None,
    report: Callable[[float], None] | None = None,
) -> FolderEvaluation:
    """Judge a bundle or a checkpoint on a folder per class.

    Args:
        model: a bundle, for which neither torch nor onnx is needed, or a checkpoint (.safetensors).
        data: a folder per class; its `val` where it holds `train` and `val`.
        runtime: of a bundle, a name of `edgevit list runtimes`.
        threads: of a bundle, CPU threads; the runtime's own choice by default.
        selection: of a checkpoint with an expert-choice router; `top-k` by default. A bundle has its own.
        report: told the share done, 0 to 1.

    Raises:
        InputError: no such model or data, or a class folder that is none of the model's labels.
        MissingExtra: the library it needs is not installed.
    """
    import numpy as np

    from edgevit.image_folder import ImageFolder
    from edgevit.metrics import evaluate as judge

    if not Path(model).exists():
        raise InputError(f"{model}: no such bundle or checkpoint; give a folder that an export wrote or a .safetensors")
    root = Path(data)
    if (root / "train").is_dir() and (root / "val").is_dir():
        root = root / "val"
    folder = ImageFolder.open(root)
    with ExitStack() as stack:
        if Path(model).is_dir():
            if selection is not None:
                raise InputError(f"{model}: a bundle has its selection rule in its graph; leave --selection out")
            labels, answer_all = _answers_of(stack.enter_context(load(model, runtime, threads)))
        else:
            if runtime != "auto" or threads is not None:
                raise InputError(f"{model}: torch runs a checkpoint; leave --runtime and --threads out")
            with needs("train"):
                from edgevit.training.answers import answers_of
            labels, answer_all = answers_of(Path(model), selection)
        truth = _truth(folder, labels, str(model))
        answers = []
        for answer in answer_all([path for path, _ in folder.items]):
            answers.append(answer)
            if report is not None:
                report(len(answers) / len(folder))
    probabilities, counts = zip(*answers, strict=True)
    return FolderEvaluation(
        model=str(model),
        data=str(root),
        evaluation=judge(truth, np.array(probabilities), labels),
        mean_patches=tuple(np.mean(counts, axis=0).tolist()),
    )


def train_model(
    model: str,
    data: str | Path,
    *,
    output: str | Path,
    initial: str | Path | None = None,
    schedule: str | None = None,
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
        model: a name of `edgevit list models`, for its architecture.
        data: `train` and `val`, or one folder per class to be split.
        output: the folder of the run: `checkpoint.safetensors`, `metrics.json`, and the state to resume from.
        initial: a checkpoint of the same architecture to start from; its head is kept where the classes are the same.
        schedule: what a reduced model reduces where, as text; that of `initial` or the method's by default.
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
        teacher=None if teacher is None else Path(teacher),
        resume=resume,
        calibrate=calibrate,
        val_share=val_share,
        run_length=run_length,
        report=report,
    )


def measure(
    bundles: Sequence[str | Path],
    *,
    runtimes: Sequence[str] = ("auto",),
    threads: int | None = None,
    data: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    command_line: Sequence[str] = (),
    **settings: Any,
) -> Measurement:
    """Time bundles side by side: one process each, in interleaved blocks, every sample kept.

        from edgevit.benchmarks import summarise

        measurement = edgevit.measure(["d/dense", "d/topk"], min_duration_s=10)
        print(summarise(measurement).comparisons)

    Args:
        bundles: folders that exports wrote; the first is the reference of every ratio.
        runtimes: names of `edgevit list runtimes`; each bundle is timed on each.
        threads: CPU threads of each candidate; the runtime's own choice by default.
        data: a folder of images to run, preprocessed beforehand; seeded noise by default.
        progress: called now and then, never while something is timed.
        command_line: kept with the results.
        **settings: fields of `edgevit.benchmarks.Settings`, which states their units and defaults.

    Raises:
        InputError: a bundle, a runtime or a setting that makes no sense, or no candidate could be loaded.
        MissingExtra: a runtime's library is not installed.
    """
    from edgevit.benchmarks import Settings
    from edgevit.benchmarks import measure as measure_candidates
    from edgevit.image_folder import list_images

    asked = Settings(**settings)
    asked.validate()
    images = list_images(data) if data is not None else []
    with _candidates(bundles, runtimes, threads, images) as candidates:
        return measure_candidates(
            candidates,
            asked,
            image_names=[str(image) for image in images],
            progress=progress,
            command_line=command_line,
        )


def check_loadgen(
    bundles: Sequence[str | Path],
    *,
    runtimes: Sequence[str] = ("auto",),
    threads: int | None = None,
    data: str | Path | None = None,
    progress: Callable[[str, float], None] | None = None,
    **settings: Any,
) -> tuple[LoadgenCheck, ...]:
    """Run MLPerf's loadgen and the harness in turn over the same runners, and say whether they agree.

    Args:
        bundles: as for `measure`.
        runtimes: as for `measure`.
        threads: as for `measure`.
        data: as for `measure`.
        progress: told the candidate and the share of its check that is done.
        **settings: fields of `edgevit.benchmarks.Settings`; the scenario is single-stream.

    Raises:
        InputError: what `measure` refuses, or another scenario.
        MissingExtra: loadgen or a runtime's library is not installed.
        CheckFailed: a candidate failed.
    """
    from edgevit.benchmarks import Settings
    from edgevit.benchmarks import check_loadgen as check_candidates
    from edgevit.image_folder import list_images

    images = list_images(data) if data is not None else []
    with _candidates(bundles, runtimes, threads, images) as candidates:
        return check_candidates(candidates, Settings(**settings), progress=progress)


def candidate_names(bundles: Sequence[str | Path], runtimes: Sequence[str] = ("auto",)) -> list[str]:
    """What `measure` calls its candidates, in order: each bundle on each runtime."""
    if len(runtimes) == 1:
        return _names(bundles)
    return [f"{name} @ {runtime}" for name in _names(bundles) for runtime in runtimes]


@contextmanager
def _candidates(
    bundles: Sequence[str | Path], runtimes: Sequence[str], threads: int | None, images: Sequence[Path]
) -> Iterator[list[Candidate]]:
    """Each bundle on each runtime, with the images as its own preprocessing makes them."""
    from edgevit.benchmarks import Candidate
    from edgevit.bundle import Bundle
    from edgevit.runtimes.choose import open_runner

    opened = [Bundle.open(bundle) for bundle in bundles]
    for bundle in opened:
        for runtime in runtimes:
            # Nothing is loaded by this, and what is wrong with a request is said before anything is measured.
            open_runner(bundle, runtime, threads=threads)
    names = iter(candidate_names(bundles, runtimes))
    with TemporaryDirectory(prefix="edgevit-") as scratch:
        candidates = []
        for number, bundle in enumerate(opened):
            file = Path(scratch) / f"{number}.npy" if images else None
            if file is not None:
                _save_preprocessed(images, bundle.manifest.preprocess, file)
            candidates += [
                Candidate(
                    name=next(names),
                    factory="edgevit.runtimes.choose:open_runner",
                    arguments={"bundle": str(bundle.path), "runtime": runtime, "threads": threads},
                    images=file,
                )
                for runtime in runtimes
            ]
        yield candidates


def _answers_of(session: Session) -> tuple[tuple[str, ...], AnswerAll]:
    """A bundle in the form of `edgevit.training.answers.answers_of`; no patches either where its trace was left out."""

    def answer_all(pictures: Sequence[Path]) -> Iterator[tuple[list[float], list[int]]]:
        batch = session.bundle.manifest.input.shape[0]
        for start in range(0, len(pictures), batch):
            for prediction in session.predict(list(pictures[start : start + batch])):
                counts = prediction.routing.counts if prediction.routing is not None else ()
                yield list(prediction.probabilities.values()), list(counts)

    return session.labels, answer_all


def _truth(folder: ImageFolder, labels: tuple[str, ...], model: str) -> np.ndarray:
    """The class of each picture by the model's own numbering: int64, n."""
    import numpy as np

    unknown = [label for label in folder.labels if label not in labels]
    if unknown:
        raise InputError(
            f"{model}: knows no class {', '.join(unknown)}; name the folders by its labels: {', '.join(labels)}"
        )
    return np.array([labels.index(folder.labels[target]) for _, target in folder.items])


def _names(bundles: Sequence[str | Path]) -> list[str]:
    """What reports call the bundles: their folders' names, or the paths as given where two are alike."""
    names = [Path(bundle).resolve().name for bundle in bundles]
    if len(set(names)) < len(names):
        names = [str(bundle) for bundle in bundles]
    # The same bundle again is a candidate of its own: that is how to see what the machine's noise amounts to.
    again = [names[:number].count(name) for number, name in enumerate(names)]
    return [f"{name} #{times + 1}" if times else name for name, times in zip(names, again, strict=True)]


def _save_preprocessed(images: Sequence[Path], preprocess: Preprocess, file: Path) -> None:
    """Write M x 3 x H x W float32 picture by picture: a folder may be larger than the memory."""
    from numpy.lib.format import open_memmap

    shape = (len(images), 3, preprocess.height, preprocess.width)
    tensors = open_memmap(file, mode="w+", dtype="float32", shape=shape)
    for tensor, image in zip(tensors, images, strict=True):
        tensor[:] = preprocess(image)
    tensors.flush()
