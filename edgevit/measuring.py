"""Timing bundles side by side: the part of `edgevit.api` that joins bundles, runtimes and the harness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgevit.benchmarks import Candidate, LoadgenCheck, Measurement, Progress
    from edgevit.preprocess import Preprocess

__all__ = ["candidate_names", "check_loadgen", "measure"]


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
    """What `measure` calls its candidates, in order: each bundle on each runtime.

    Args:
        bundles: as for `measure`.
        runtimes: as for `measure`.
    """
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
