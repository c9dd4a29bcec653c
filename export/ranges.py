"""How large every value of a graph becomes on calibration pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from operator import length_hint
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgevit.errors import InputError
from edgevit.runner import Runner

from .shapes import with_shapes
from .watched import LARGEST, SMALLEST, float_values, with_extremes

__all__ = ["OpenGraph", "Ranges", "measure_ranges"]

OpenGraph = Callable[[bytes], Runner]


@dataclass(frozen=True)
class Ranges:
    """What was seen of the float32 values of a graph, by name.

    Attributes:
        smallest: the smallest number in each value over all batches.
        biggest: the largest number in each.
        batches: how many were run.
    """

    smallest: Mapping[str, float]
    biggest: Mapping[str, float]
    batches: int

    @property
    def largest(self) -> Mapping[str, float]:
        """The largest magnitude in each value; infinite where one overflowed, NaN where one is no number."""
        return {name: max(abs(low), abs(self.biggest[name])) for name, low in self.smallest.items()}


def measure_ranges(
    model: ir.Model,
    batches: Iterable[np.ndarray],
    open_graph: OpenGraph,
    *,
    histograms: Collection[str] = (),
    state: Path | None = None,
    report: Callable[[float], None] | None = None,
) -> Ranges:
    """Run the graph on every batch and keep how large its values become.

    Args:
        model: a finished fp32 graph; it is not changed.
        batches: tensors of exactly the graph's input.
        open_graph: makes the runner.
        histograms: values whose distribution is kept as well.
        state: where a partial result is kept, so that a run that was stopped goes on where it was.
        report: told the share of the batches that is done, 0 to 1.

    Raises:
        InputError: no batch, a graph with branches, or one whose shapes are not known.
    """
    names = float_values(with_shapes(model))
    smallest, biggest = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    done, total = 0, length_hint(batches)
    with open_graph(ir.to_proto(with_extremes(model, names)).SerializeToString()) as runner:
        for batch in batches:
            outputs = runner(batch)
            smallest, biggest = np.minimum(smallest, outputs[SMALLEST]), np.maximum(biggest, outputs[LARGEST])
            done += 1
            if report is not None and total:
                report(min(done / total, 1.0))
    if not done:
        raise InputError("got no batch to measure ranges on; name a folder of pictures with --calibration-data")
    return Ranges(
        dict(zip(names, smallest.tolist(), strict=True)), dict(zip(names, biggest.tolist(), strict=True)), done
    )
