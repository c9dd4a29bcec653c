"""Finding the fastest way to run a bundle on this machine: what `edgevit bench --autotune` does.

First every choice is held to the golden samples, then those that pass are timed side by side in a short trial, then
the default and the best of them are measured again, by themselves and at full length. That second measurement alone
decides: the best of many is partly the luckiest of them.

Does not know: how anything is timed (the harness), how a choice is made use of (`edgevit.runtimes.tuned`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from edgevit.bundle import Bundle
from edgevit.errors import CheckFailed, EdgevitError, InputError
from edgevit.machine import this_machine
from edgevit.tuning_record import Choice, Decision, Trial, TuningRecord, write_tuning
from edgevit.tuning_timer import HarnessTimer, Timed, Timer

__all__ = ["Tuning", "choices_here", "thread_counts", "tune"]

_Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class Tuning:
    """What was found, and where it is kept."""

    record: TuningRecord
    path: Path


def tune(
    bundle: str | Path | Bundle,
    *,
    data: str | Path | None = None,
    tell: _Tell | None = None,
    time_choices: Timer | None = None,
    answers: Callable[[Bundle, Choice], str | None] | None = None,
) -> Tuning:
    """Find the fastest way to run a bundle here, and keep it beside the bundle.

    Args:
        bundle: for a CPU target; its batch stays as it was exported.
        data: a folder of images to time; by default the golden samples of the bundle. What an adaptive graph costs
            depends on them.
        tell: told the share done and what is being done.
        time_choices: times choices; the harness by default.
        answers: why a choice does not answer as the reference does, None where it does; by default it is run.

    Raises:
        InputError: no bundle, one for another device than a CPU, no runtime for it here, or no room for the record.
        CheckFailed: the default itself answers otherwise than the reference, or the measurement was cut short.
    """
    from edgevit.runtimes.tuned import installed_libraries, is_tunable

    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    if not is_tunable(opened):
        target = opened.manifest.target
        raise InputError(f"{opened.path}: is for target {target}; --autotune is for CPU targets, such as cpu-x86")
    choices = choices_here(opened)
    say = tell or (lambda done, doing: None)
    check = answers or _answers_otherwise
    refused: dict[Choice, str | None] = {}
    for number, choice in enumerate(choices):
        say(0.1 * number / len(choices), f"check {choice}")
        refused[choice] = check(opened, choice)
    default = choices[0]
    if refused[default] is not None:
        raise CheckFailed(f"{opened.path}: {default}, the default here: {refused[default]}; run edgevit verify on it")
    with _images(opened, data) as (file, images):
        timer = time_choices or HarnessTimer(opened, file)
        sound = [choice for choice in choices if refused[choice] is None]
        timed = dict(
            zip(
                sound,
                timer(sound, thorough=False, tell=lambda done: say(0.1 + 0.4 * done, f"try {len(sound)} choices")),
                strict=True,
            )
        )
        if timed[default].failure is not None:
            raise CheckFailed(f"{opened.path}: {default}, the default here: {timed[default].failure}")
        trials = tuple(_trial(choice, refused[choice], timed.get(choice)) for choice in choices)
        best = _best(trials)
        decision = None
        if best is not None:
            decided = timer(
                [default, best],
                thorough=True,
                tell=lambda done: say(0.5 + 0.5 * done, f"hold {best} against {default}"),
            )[1]
            if decided.verdict is None:
                raise CheckFailed(f"{opened.path}: {best}: {decided.failure or 'was not timed'}; nothing was kept")
            decision = Decision(challenger=best, ratio=decided.verdict, floor=decided.floor, rounds=decided.rounds)
    record = TuningRecord(
        bundle_digest=opened.digest,
        machine=this_machine(),
        libraries=installed_libraries(),
        images=images,
        default=default,
        trials=trials,
        decision=decision,
    )
    return Tuning(record, write_tuning(opened, record))


def choices_here(bundle: Bundle) -> list[Choice]:
    """What can be tried: the default first, then each runtime that is installed with each number of threads.

    Raises:
        MissingExtra: none is installed.
    """
    from edgevit.errors import MissingExtra
    from edgevit.runtimes.choose import RUNTIMES
    from edgevit.runtimes.fallback import rungs
    from edgevit.runtimes.tuned import TUNABLE
    from edgevit.targets import target_named

    installed = [runtime.name for runtime in RUNTIMES if runtime.name in TUNABLE and runtime.installed]
    own = [name for name in rungs(target_named(bundle.manifest.target)) if name in installed]
    if not own:
        raise MissingExtra("onnxruntime", "cpu")
    counts = thread_counts(this_machine().cpus)
    return [Choice(runtime=own[0], threads=None)] + [
        Choice(runtime=name, threads=threads) for name in installed for threads in counts
    ]


def thread_counts(cpus: int) -> list[int]:
    """1, 2, 4 and so on, and all: on many cores a choice between neighbours is not worth its measurement."""
    counts = [2**power for power in range(cpus.bit_length()) if 2**power <= cpus]
    return counts if counts[-1] == cpus else [*counts, cpus]


def _trial(choice: Choice, refused: str | None, timed: Timed | None) -> Trial:
    if timed is None:
        return Trial(choice=choice, median_ms=None, ratio=None, refused=refused)
    return Trial(choice=choice, median_ms=timed.median_ms, ratio=timed.ratio, refused=timed.failure)


def _best(trials: Sequence[Trial]) -> Choice | None:
    """The choice with the smallest ratio, if that is below that of the default with itself."""
    rated = [(trial.ratio.ratio, trial.choice) for trial in trials if trial.ratio is not None and trial.refused is None]
    if not rated:
        return None
    ratio, choice = min(rated, key=lambda one: one[0])
    return choice if ratio < 1 else None


def _answers_otherwise(bundle: Bundle, choice: Choice) -> str | None:
    """Why a choice does not answer as the reference does; None where it does."""
    from edgevit.api import verify_bundle

    try:
        parity = verify_bundle(bundle.path, runtime=choice.runtime, threads=choice.threads)
    except EdgevitError as error:
        return str(error)
    return None if parity.passed else f"answers otherwise than the reference: {parity.faults[0]}"


@contextmanager
def _images(bundle: Bundle, data: str | Path | None) -> Iterator[tuple[Path, int]]:
    """A file of preprocessed images, and how many there are."""
    import numpy as np
    from numpy.lib.format import open_memmap

    from edgevit.image_folder import list_images
    from edgevit.parity import Golden

    preprocess = bundle.manifest.preprocess
    with TemporaryDirectory(prefix="edgevit-") as scratch:
        file = Path(scratch) / "images.npy"
        if data is None:
            images = Golden.from_arrays(bundle.golden()).images
            np.save(file, images)
            yield file, len(images)
            return
        paths = list_images(data)
        shape = (len(paths), 3, preprocess.height, preprocess.width)
        tensors = open_memmap(file, mode="w+", dtype="float32", shape=shape)  # a folder may be larger than the memory
        for tensor, path in zip(tensors, paths, strict=True):
            tensor[:] = preprocess(path)
        tensors.flush()
        yield file, len(paths)
