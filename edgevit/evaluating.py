"""Judging a bundle or a checkpoint on labelled pictures: the part of `edgevit.api` that knows both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.errors import InputError
from edgevit.extras import needs

if TYPE_CHECKING:
    import numpy as np

    from edgevit.image_folder import ImageFolder
    from edgevit.metrics import Evaluation
    from edgevit.runtimes.session import Session
    from edgevit.spec import Selection
    from edgevit.training.answers import AnswerAll

__all__ = ["FolderEvaluation", "evaluate"]


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
    from edgevit.runtimes.session import load

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
