"""Measuring what an adaptive bundle costs here, budget by budget: the part that joins graph, harness and record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from edgevit.errors import CheckFailed, InputError

if TYPE_CHECKING:
    import numpy as np

    from edgevit.benchmarks import Measurement
    from edgevit.bundle import Bundle
    from edgevit.curve_record import Curve, Durations
    from edgevit.preprocess import Preprocess
    from edgevit.spec import RoutingSpec

__all__ = ["cap_settings", "measure_curve"]

_SIDE_BY_SIDE = 4  # processes that hold the graph at the same time: devices have little memory
_MOST_SETTINGS = 64
_MOST_PICTURES = 64


def measure_curve(
    bundle: str | Path,
    *,
    threads: int | None = None,
    data: str | Path | None = None,
    runs: int = 300,
    report: Callable[[float], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Curve:
    """Time an adaptive bundle with its steps as full as each choice of caps allows, and keep the times beside it.

    Each choice runs in a process of its own, a few of them in turn, on pictures of which every token wants every step.
    No cost is put together from others: what is kept of a choice of caps was seen under just these.

    Args:
        bundle: an adaptive one.
        threads: CPU threads; the runtime's own choice by default. A session must ask for as many.
        data: a folder of pictures such as the session will read, to time what stands around the graph; by default that
            is timed on arrays of the input's size, which need no file and no resizing.
        runs: of each choice, 20 or more. Three hundred cover 99 % of what follows, three thousand 99.9 %.
        report: told the share done, 0 to 1.
        note: told in one line what speaks against the times, such as other work on the machine.

    Raises:
        InputError: no adaptive bundle, too few runs, pictures that cannot be read, or no room beside the bundle.
        CheckFailed: a run failed, was interrupted, or took other tokens than it was to.
        MissingExtra: onnxruntime is not installed.
    """
    from edgevit.bundle import Bundle
    from edgevit.curve_record import Curve, Durations, Point, write_curve
    from edgevit.machine import this_machine
    from edgevit.runtimes.deadline import RUNTIME, adaptive_routing, open_forced

    if runs < 20:
        raise InputError(f"{runs} runs say nothing of the longest to come; wanted 20 or more")
    opened = Bundle.open(bundle)
    routing = adaptive_routing(opened)
    settings = cap_settings(routing)
    with open_forced(opened, settings[-1], threads) as runner:  # what cannot be measured is said before it takes long
        facts = runner.facts
    pictures, around_of = _pictures(opened, data)
    points: list[Point] = []
    doubts: list[str] = []
    with TemporaryDirectory(prefix="edgevit-") as scratch:
        images = _saved(opened, pictures if data is not None else [], Path(scratch) / "images.npy")
        rest = iter(settings)
        while group := list(islice(rest, _SIDE_BY_SIDE)):
            durations, disturbed = _timed(opened, group, threads, images, runs)
            doubts += disturbed
            for caps, times in zip(group, durations, strict=True):
                points.append(Point(caps=caps, durations=Durations.of(times)))
            if report is not None:
                report(len(points) / (len(settings) + 1))
    curve = Curve(
        bundle_digest=opened.digest,
        runtime=RUNTIME,
        library_version=str(facts["version"]),
        threads=str(facts["threads"]),
        machine=this_machine(),
        points=tuple(points),
        around=_around(opened, pictures, runs),
        around_of=around_of,
    )
    write_curve(opened, curve, threads)
    if doubts and note is not None:
        note(f"{doubts[-1]} while budgets were timed, so that the bounds are of such a machine; measure on an idle one")
    return curve


def cap_settings(routing: RoutingSpec, most: int = _MOST_SETTINGS) -> list[tuple[int, ...]]:
    """The choices of caps that can make a difference, from the fewest tokens to all.

    A step cannot go on with more tokens than the step before it, so of its rungs those up to the first that holds these
    are enough. Where that leaves very many, some evenly among them are taken.

    Args:
        routing: of an adaptive graph.
        most: choices to have at most, 2 or more.
    """

    def choices(before: int, ladders: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
        if not ladders:
            yield ()
            return
        rungs = ladders[0]
        enough = next(number for number, rung in enumerate(rungs, start=1) if rung >= before)
        for rung in rungs[:enough]:
            for rest in choices(min(before, rung), ladders[1:]):
                yield (rung, *rest)

    found = sorted(choices(routing.tokens, routing.budgets), key=lambda caps: (sum(caps), caps))
    if len(found) <= most:
        return found
    return [found[round(place * (len(found) - 1) / (most - 1))] for place in range(most)]


def _timed(
    bundle: Bundle, group: Sequence[tuple[int, ...]], threads: int | None, images: Path, runs: int
) -> tuple[list[list[int]], list[str]]:
    """Nanoseconds of each run under each choice of caps, and what else the machine did meanwhile."""
    from edgevit.benchmarks import Candidate, Settings, summarise
    from edgevit.benchmarks import measure as measure_candidates

    candidates = [
        Candidate(
            name=", ".join(map(str, caps)) or "all",
            factory="edgevit.runtimes.deadline:open_forced",
            arguments={"bundle": str(bundle.path), "caps": list(caps), "threads": threads},
            images=images,
        )
        for caps in group
    ]
    settings = Settings(min_queries=runs, min_duration_s=0.5, min_rounds=5, warmup_cap_s=3.0, pilot_rounds=0)
    measurement = measure_candidates(candidates, settings)
    _require_whole(measurement, group)
    disturbed = [
        check.finding for check in summarise(measurement).checks if check.name in ("busy-machine", "throttled")
    ]
    # Those that opened a block belong to it: a line's next picture also comes after something else used the caches.
    times = [
        [*result.lead_in.latency_ns.tolist(), *result.measured.latency_ns.tolist()] for result in measurement.results
    ]
    return times, disturbed


def _require_whole(measurement: Measurement, group: Sequence[tuple[int, ...]]) -> None:
    if measurement.ended != "complete":
        raise CheckFailed("interrupted while budgets were timed; nothing was kept")
    for result, caps in zip(measurement.results, group, strict=True):
        if result.failure is not None:
            raise CheckFailed(f"the graph under caps {result.candidate.name} failed: {result.failure.reason}")
        wanted = [min(caps[: step + 1]) for step in range(len(caps))]
        if result.counts is not None and (result.counts[:, 1:] != wanted).any():
            raise CheckFailed(f"the graph under caps {result.candidate.name} took other tokens; export the model again")


def _pictures(bundle: Bundle, data: str | Path | None) -> tuple[list[Any], str]:
    """What a session would be given, and what that is in words."""
    import numpy as np

    from edgevit.image_folder import list_images

    if data is not None:
        return list(list_images(data)[:_MOST_PICTURES]), f"pictures of {Path(data).resolve().name}"
    preprocess = bundle.manifest.preprocess
    draws = np.random.default_rng(0)
    shape = (preprocess.height, preprocess.width, 3)
    return [draws.integers(0, 256, shape).astype(np.uint8) for _ in range(4)], "arrays of the input's size"


def _saved(bundle: Bundle, pictures: Sequence[Path], file: Path) -> Path:
    """M x 3 x H x W float32 for the harness: of the pictures, or without any the golden ones."""
    import numpy as np

    from edgevit.parity import Golden

    preprocess: Preprocess = bundle.manifest.preprocess
    images: np.ndarray = preprocess.batch(pictures) if pictures else Golden.from_arrays(bundle.golden()).images
    np.save(file, images)
    return file


def _around(bundle: Bundle, pictures: Sequence[Any], runs: int) -> Durations:
    """What a session spends on full batches beside the graph."""
    from edgevit.curve_record import Durations
    from edgevit.runtimes.null_runner import NullRunner
    from edgevit.runtimes.session import Session

    manifest = bundle.manifest
    batch = manifest.input.shape[0]
    times = []
    with Session(bundle, NullRunner(manifest.input, manifest.outputs)) as session:
        for run in range(runs):
            images = [pictures[(run * batch + place) % len(pictures)] for place in range(batch)]
            start = perf_counter_ns()
            session.predict(images)
            times.append(perf_counter_ns() - start)
    return Durations.of(times)
