"""How large every value of a graph becomes on calibration pictures, and how some of them are spread."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import length_hint
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgevit.errors import InputError
from edgevit.runner import Runner

from .histogram import Histogram
from .shapes import with_shapes
from .tally import Tally, read_tally, write_tally
from .watched import float_values, watched

__all__ = ["OpenGraph", "Ranges", "measure_ranges"]

# ONNX bytes to a runner, not yet entered; passed in, since the exporter knows no runtime.
OpenGraph = Callable[[bytes], Runner]
_Note = Callable[[str], None]
_SAVE_EVERY = 8  # batches


@dataclass(frozen=True)
class Ranges:
    """What was seen of the float32 values of a graph, by their names.

    Attributes:
        smallest: the smallest number in each value over all batches; NaN where one is no number.
        biggest: the largest number in each.
        histograms: of the magnitudes of the values that were asked for.
        batches: how many were run.
    """

    smallest: Mapping[str, float]
    biggest: Mapping[str, float]
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    batches: int = 0

    @property
    def largest(self) -> Mapping[str, float]:
        """The largest magnitude in each value; infinite where one overflowed, NaN where one is no number."""
        return {name: float(np.maximum(abs(low), abs(self.biggest[name]))) for name, low in self.smallest.items()}

    def clipped(self, name: str, percentile: float) -> float:
        """The magnitude that `percentile` percent of a value's numbers do not exceed, from its histogram.

        Raises:
            KeyError: no histogram of it was asked for.
        """
        return self._at_most(name, self.histograms[name].percentile(percentile))

    def entropy(self, name: str) -> float:
        """The clip of least Kullback-Leibler divergence in 8 bits; see `Histogram.entropy`.

        Raises:
            KeyError: no histogram of it was asked for.
        """
        return self._at_most(name, self.histograms[name].entropy())

    def least_error(self, name: str) -> float:
        """The clip of least mean squared error in symmetric int8; see `Histogram.least_error`.

        Raises:
            KeyError: no histogram of it was asked for.
        """
        return self._at_most(name, self.histograms[name].least_error())

    def _at_most(self, name: str, clip: float) -> float:
        """No clip beyond the largest number: the edge of a bin may lie above it."""
        return min(clip, max(abs(self.smallest[name]), abs(self.biggest[name])))


def measure_ranges(
    model: ir.Model,
    batches: Iterable[np.ndarray],
    open_graph: OpenGraph,
    *,
    histograms: Collection[str] = (),
    state: Path | None = None,
    report: Callable[[float], None] | None = None,
    note: _Note | None = None,
) -> Ranges:
    """Run the graph once on every batch and keep how large its values become.

    Memory does not grow with the number of batches: neither pictures nor activations are kept.

    Args:
        model: a finished fp32 graph; it is not changed.
        batches: tensors of exactly the graph's input.
        open_graph: makes the runner.
        histograms: values whose magnitudes are counted as well, of large ones a fixed sample of each batch.
        state: a file for the partial result, written every few batches and at the end. A run that finds it there goes
            on after the batches it holds; if graph, values or pictures are others it starts over and says so.
        report: told the share of the batches that is done, above 0 to 1.
        note: told in one line that the state was of no use.

    Raises:
        InputError: no batch, a graph with branches or unknown shapes, a name in `histograms` that is no float32 value
            of it, or a state that cannot be read or written.
        ValueError: a state with batches that can be gone through only once.
    """
    batches_once = iter(batches)
    if state is not None and batches_once is batches:
        raise ValueError(
            "a run that can go on needs batches that can be gone through again: pass a list, not a generator"
        )
    shaped = with_shapes(model)
    names, sampled = float_values(shaped), tuple(sorted(histograms))
    unknown = set(sampled) - set(names)
    if unknown:
        raise InputError(f"{min(unknown)} is no float32 value of the graph; measure the graph that the names are from")
    graph = ir.to_proto(watched(shaped, names, sampled)).SerializeToString(deterministic=True)
    key = hashlib.sha256(graph).digest()
    tally, rest = _resumed(state, key, len(names), len(sampled), batches, note or _silent)
    total = length_hint(batches)
    with open_graph(graph) as runner:
        for batch in rest:
            tally.add(runner(batch), _digest(batch))
            if state is not None and len(tally.batches) % _SAVE_EVERY == 0:
                write_tally(state, tally, key)
            if report is not None and total:
                report(min(len(tally.batches) / total, 1.0))
    if not tally.batches:
        raise InputError("got no batch to measure ranges on; name a folder of pictures with --calibration-data")
    if state is not None:
        write_tally(state, tally, key)
    return _ranges(tally, names, sampled)


def _resumed(
    state: Path | None, key: bytes, values: int, sampled: int, batches: Iterable[np.ndarray], note: _Note
) -> tuple[Tally, Iterator[np.ndarray]]:
    """The tally so far and the batches that are not in it."""
    fresh = Tally(values, sampled)
    if state is None or not state.exists():
        return fresh, iter(batches)
    found = read_tally(state, key, values, sampled)
    if found is None:
        note(f"{state} holds the ranges of another graph; measuring anew")
        return fresh, iter(batches)
    rest = iter(batches)
    for digest in found.batches:
        batch = next(rest, None)
        if batch is None or _digest(batch) != digest:
            note(f"{state} holds the ranges of other pictures; measuring anew")
            return fresh, iter(batches)
    return found, rest


def _ranges(tally: Tally, names: Sequence[str], sampled: Sequence[str]) -> Ranges:
    return Ranges(
        smallest=dict(zip(names, tally.smallest.tolist(), strict=True)),
        biggest=dict(zip(names, tally.biggest.tolist(), strict=True)),
        histograms=dict(zip(sampled, tally.histograms, strict=True)),
        batches=len(tally.batches),
    )


def _digest(batch: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(batch).tobytes()).digest()


def _silent(line: str) -> None:
    """Nobody is listening."""
