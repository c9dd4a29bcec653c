"""`edgevit verify --ladder`: where a bundle of lower precision has moved from fp32, block by block and step by step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edgevit import console
from edgevit.bundle import GRAPH_NAME, Bundle
from edgevit.errors import InputError
from edgevit.extras import needs
from edgevit.parity import Golden
from edgevit.precision_record import Island, Retry, Rung, Score, read_precision

__all__ = ["Ladder", "climb_ladder", "show_ladder"]

_CPU = "CPUExecutionProvider"
# What each runtime that can give inner values computes halves on; the CPU has none, so there they are emulated.
_PROVIDERS = {
    "auto": (_CPU,),
    "ort": (_CPU,),
    "ort-cuda": ("CUDAExecutionProvider",),
    "ort-trt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}


@dataclass(frozen=True)
class Ladder:
    """The ladder of a bundle.

    Attributes:
        precision: of the bundle.
        where: what ran the graph here: `emulated on the CPU`, or ONNX Runtime's provider.
        here: each part against the numbers of the fp32 graph in the bundle.
        at_export: the same over all numbers and golden inputs, emulated, as the export measured it.
        scores: what is ranked, as the export measured it.
        islands: the nodes that stayed in fp32.
        retries: the parts that were given back their precision at export, and why.
        first_offender: the first part that overflows here, or whose error jumps; None where it only grows.
    """

    precision: str
    where: str
    here: tuple[Rung, ...]
    at_export: tuple[Rung, ...]
    scores: tuple[Score, ...]
    islands: tuple[Island, ...]
    retries: tuple[Retry, ...]
    first_offender: str | None


def climb_ladder(bundle: Path, runtime: str = "auto", threads: int | None = None) -> Ladder:
    """Run the graph of a bundle with its inner values, and compare what each part gives with fp32.

    Args:
        bundle: of a lower precision.
        runtime: `ort` emulates halves on the CPU; `ort-cuda` and `ort-trt` compute them.
        threads: CPU threads; the runtime's own choice by default.

    Raises:
        InputError: an fp32 bundle, a damaged one, or a runtime that gives no inner values.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    from edgevit.runtimes.ort import OrtRunner

    if runtime not in _PROVIDERS:
        raise InputError(
            f"--ladder on {runtime}, which gives no inner values; use one of: {', '.join(sorted(_PROVIDERS))}"
        )
    opened = Bundle.open(bundle)
    record = read_precision(opened)
    with needs("export"):
        from edgevit.export.sampled import climb

    providers = _PROVIDERS[runtime]
    open_graph = partial(OrtRunner, providers=providers, threads=threads)
    batches = _batches(Golden.from_arrays(opened.golden()).images, opened.manifest.input.shape[0])
    climbed = climb(opened.read(GRAPH_NAME), record, batches, open_graph, emulate=providers == (_CPU,))
    return Ladder(
        precision=opened.manifest.precision_achieved,
        where="emulated on the CPU" if providers == (_CPU,) else providers[0],
        here=climbed.rungs,
        at_export=record.rungs,
        scores=record.scores,
        islands=record.islands,
        retries=record.retries,
        first_offender=climbed.first_offender.part if climbed.first_offender is not None else None,
    )


def _batches(images: np.ndarray, batch: int) -> list[np.ndarray]:
    """As the exporter makes them: the last one filled up by repeating."""
    chunks = [images[start : start + batch] for start in range(0, len(images), batch)]
    return [np.concatenate([chunk, np.repeat(chunk[-1:], batch - len(chunk), axis=0)]) for chunk in chunks]


def show_ladder(ladder: Ladder, *, passed: bool) -> None:
    """Print the ladder for people; what drifts first is a remedy's place only where the bundle does not answer."""
    exported = {rung.part: rung for rung in ladder.at_export}
    rows = []
    for rung in ladder.here:
        alarm = console.caution if passed else console.bad
        mark = alarm if rung.part == ladder.first_offender else console.faint
        verdict = "first to drift" if rung.part == ladder.first_offender else f"{rung.runs} inputs"
        before = exported.get(rung.part)
        rows.append((rung.part, _error(rung), _error(before) if before is not None else "", mark(verdict)))
    title = f"drift from fp32, {ladder.precision}, {ladder.where}"
    console.show_table(("part", ">error here, sampled", ">at export", "compared"), rows, title)
    scores = [
        (score.node, _number(score.error), _number(score.margin), f"{score.flipped} of {score.runs}")
        for score in ladder.scores
    ]
    if scores:
        heading = ("ranked by", ">largest error", ">closest call", ">inputs that took others")
        console.show_table(heading, scores, "router scores at export, as shares of their spread")
    for retry in ladder.retries:
        console.show_line(console.caution(f"{retry.part} was given back its precision: {retry.because}"))
    console.show_line(
        console.good("no part overflows or jumps")
        if ladder.first_offender is None
        else console.caution(f"{ladder.first_offender} is the first to drift, and the bundle answers all the same")
        if passed
        else console.bad(f"{ladder.first_offender} is the first to drift; export in a higher precision for this device")
    )


def _error(rung: Rung) -> str:
    return "overflow" if rung.overflowed else _number(rung.error)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
