"""The ladder on another machine than the exporter's, against some numbers of the fp32 graph that the bundle keeps."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.precision_record import Picked, PrecisionReport, Sampled
from edgevit.runner import Runner

from .drift import Deviation, Drift
from .emulate import emulated
from .fullest import fullest
from .watch_points import exposed, picking_values, watched_values

__all__ = ["climb", "sampled"]

_RUNS = 6
_NUMBERS = 48  # of each result of a run: the estimate of an error is then good to about a tenth of it


def sampled(
    model: ir.Model, batches: Iterable[np.ndarray], open_graph: Callable[[bytes], Runner]
) -> tuple[tuple[Sampled, ...], tuple[Picked, ...]]:
    """Numbers of what each part of the fp32 graph gives on the first batches, and what picked tokens there."""
    watched, pickers = watched_values(model), list(picking_values(model))
    names = [value for _, value in watched] + pickers
    with open_graph(exposed(model, names)) as runner:
        runs = [runner(batch) for batch in islice(batches, _RUNS)]
    samples = [Sampled(part, value, tuple(_numbers(run[value]) for run in runs)) for part, value in watched]
    return tuple(samples), tuple(Picked(name, tuple(_mark(run[name]) for run in runs)) for name in pickers)


def climb(
    graph: bytes,
    record: PrecisionReport,
    batches: Sequence[np.ndarray],
    open_graph: Callable[[bytes], Runner],
    *,
    emulate: bool,
) -> Drift:
    """Run a lowered graph and compare what each part gives with the numbers in its record.

    It is run as it is; one with branches in its last rungs (`fullest`), as it was when its record was made.

    Args:
        graph: of its bundle.
        record: of its bundle.
        batches: the golden images, as they were when they were sampled.
        open_graph: makes the runner.
        emulate: whether halves are emulated, for a runner that computes none.

    Returns:
        The rungs; scores are told by the record alone.
    """
    model = fullest(ir.from_proto(onnx.load_from_string(graph)))
    model = emulated(model) if emulate else model
    order = {str(value.name): index for index, node in enumerate(model.graph) for value in node.outputs}
    samples = [sample for sample in record.sampled if sample.value in order]
    picks = [pick for pick in record.picks if pick.value in order]
    sums = {sample.value: Deviation() for sample in samples}
    ends = {str(value.name) for value in model.graph.outputs}
    with open_graph(exposed(model, [*sums, *(pick.value for pick in picks)])) as runner:
        for index, batch in enumerate(batches[: len(samples[0].numbers)] if samples else []):
            got = runner(batch)
            other = [order[pick.value] for pick in picks if pick.marks[index] != _mark(got[pick.value])]
            for sample in samples:
                if sample.value in ends or order[sample.value] < min(other, default=len(order)):
                    numbers = np.array(_numbers(got[sample.value], finite=False))
                    sums[sample.value].add(np.array(sample.numbers[index]), numbers)
    return Drift(tuple(sums[sample.value].rung(sample.part, sample.value) for sample in samples), ())


def _numbers(value: np.ndarray, *, finite: bool = True) -> tuple[float, ...]:
    """At even distances, so that every token and channel has its chance."""
    flat = value.ravel()
    at = np.linspace(0, flat.size - 1, min(_NUMBERS, flat.size)).round().astype(int)
    taken = flat[at].astype(np.float64)
    return tuple(float(f"{number:.6g}") for number in (np.nan_to_num(taken) if finite else taken))


def _mark(value: np.ndarray) -> int:
    """A checksum of what was picked, in whatever order."""
    ordered = value if value.dtype == bool or not value.ndim else np.sort(value, axis=-1)
    return zlib.crc32(np.ascontiguousarray(ordered).astype(np.int64).tobytes())
