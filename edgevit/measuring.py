"""Timing bundles side by side: the part of `edgevit.api` that joins bundles, runtimes and the harness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgevit.errors import InputError

if TYPE_CHECKING:
    from edgevit.benchmarks import Candidate, LoadgenCheck, Measurement, Progress
    from edgevit.bundle import Bundle
    from edgevit.preprocess import Preprocess
    from edgevit.runner import Runner

__all__ = ["candidate_names", "check_loadgen", "measure"]


def measure(
    bundles: Sequence[str | Path],
    *,
    runtimes: Sequence[str] = ("auto",),
    threads: int | None = None,
    data: str | Path | None = None,
    worst_case: bool = False,
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
        worst_case: beside each adaptive bundle time it with every step at its fullest, which no image exceeds.
        progress: called now and then, never while something is timed.
        command_line: kept with the results.
        **settings: fields of `edgevit.benchmarks.Settings`, which states their units and defaults.

    Raises:
        InputError: a bundle, a runtime or a setting that makes no sense, no candidate could be loaded, or a worst
            case is asked for where no bundle is adaptive or a runtime cannot be brought to it.
        MissingExtra: a runtime's library is not installed.
    """
    from edgevit.benchmarks import Settings
    from edgevit.benchmarks import measure as measure_candidates
    from edgevit.image_folder import list_images

    asked = Settings(**settings)
    asked.validate()
    images = list_images(data) if data is not None else []
    with _candidates(bundles, runtimes, threads, images, worst_case) as candidates:
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
    worst_case: bool = False,
    progress: Callable[[str, float], None] | None = None,
    **settings: Any,
) -> tuple[LoadgenCheck, ...]:
    """Run MLPerf's loadgen and the harness in turn over the same runners, and say whether they agree.

    Args:
        bundles: as for `measure`.
        runtimes: as for `measure`.
        threads: as for `measure`.
        data: as for `measure`.
        worst_case: as for `measure`.
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
    with _candidates(bundles, runtimes, threads, images, worst_case) as candidates:
        return check_candidates(candidates, Settings(**settings), progress=progress)


def candidate_names(
    bundles: Sequence[str | Path], runtimes: Sequence[str] = ("auto",), worst_case: bool = False
) -> list[str]:
    """What `measure` calls its candidates, in order: each bundle on each runtime, its worst case behind it.

    Args:
        bundles: as for `measure`.
        runtimes: as for `measure`.
        worst_case: as for `measure`.
    """
    from edgevit.bundle import Bundle

    if not worst_case:
        return _names(bundles, runtimes)
    adaptive = [_is_adaptive(Bundle.open(bundle)) for bundle in bundles for _ in runtimes]
    named = zip(_names(bundles, runtimes), adaptive, strict=True)
    return [one for name, varies in named for one in ([name, f"{name} (worst case)"] if varies else [name])]


def _is_adaptive(bundle: Bundle) -> bool:
    """Whether one picture may cost more than another."""
    return bundle.manifest.routing is not None and bundle.manifest.routing.mode == "adaptive"


@contextmanager
def _candidates(
    bundles: Sequence[str | Path],
    runtimes: Sequence[str],
    threads: int | None,
    images: Sequence[Path],
    worst_case: bool,
) -> Iterator[list[Candidate]]:
    """Each bundle on each runtime, with the images as its own preprocessing makes them."""
    from edgevit.benchmarks import Candidate
    from edgevit.bundle import Bundle
    from edgevit.runtimes.choose import open_runner
    from edgevit.runtimes.worst_case import open_worst_case

    opened = [Bundle.open(bundle) for bundle in bundles]
    if worst_case and not any(map(_is_adaptive, opened)):
        raise InputError("every picture costs what the worst does, since no bundle is adaptive; ask for no worst case")
    names = iter(candidate_names(bundles, runtimes, worst_case))
    with TemporaryDirectory(prefix="edgevit-") as scratch:
        candidates: list[Candidate] = []
        for number, bundle in enumerate(opened):
            file = Path(scratch) / f"{number}.npy" if images else None
            for runtime in runtimes:
                usual = next(names)
                ways: dict[str, Callable[..., Runner]] = {usual: open_runner}
                if worst_case and _is_adaptive(bundle):
                    ways[next(names)] = open_worst_case
                for name, way in ways.items():
                    # Nothing is loaded by this, and what is wrong with a request is said before anything is measured.
                    way(bundle, runtime, threads=threads)
                    candidates.append(
                        Candidate(
                            name=name,
                            factory=f"{way.__module__}:{way.__name__}",
                            arguments={"bundle": str(bundle.path), "runtime": runtime, "threads": threads},
                            images=file,
                            worst_case_of=None if name == usual else usual,
                        )
                    )
        for number, bundle in enumerate(opened if images else ()):
            _save_preprocessed(images, bundle.manifest.preprocess, Path(scratch) / f"{number}.npy")
        yield candidates


def _names(bundles: Sequence[str | Path], runtimes: Sequence[str]) -> list[str]:
    """What reports call each bundle on each runtime: by folders' names, or the paths as given where two are alike."""
    names = [Path(bundle).resolve().name for bundle in bundles]
    if len(set(names)) < len(names):
        names = [str(bundle) for bundle in bundles]
    # The same bundle again is a candidate of its own: that is how to see what the machine's noise amounts to.
    again = [names[:number].count(name) for number, name in enumerate(names)]
    numbered = [f"{name} #{times + 1}" if times else name for name, times in zip(names, again, strict=True)]
    if len(runtimes) == 1:
        return numbered
    return [f"{name} @ {runtime}" for name in numbered for runtime in runtimes]


def _save_preprocessed(images: Sequence[Path], preprocess: Preprocess, file: Path) -> None:
    """Write M x 3 x H x W float32 picture by picture: a folder may be larger than the memory."""
    from numpy.lib.format import open_memmap

    shape = (len(images), 3, preprocess.height, preprocess.width)
    tensors = open_memmap(file, mode="w+", dtype="float32", shape=shape)
    for tensor, image in zip(tensors, images, strict=True):
        tensor[:] = preprocess(image)
    tensors.flush()
