"""Runs a lowered graph beside what it is judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import length_hint

import numpy as np
import onnx_ir as ir

from edgevit.agreement import agree, judge
from edgevit.parity import Golden, Parity
from edgevit.runner import Runner
from edgevit.spec import Precision

from .emulate import emulated

__all__ = ["Proof"]


class Proof:
    """What a lowered graph has to answer: the source model's golden outputs, and the fp32 graph's on pictures.

    The fp32 graph is asked once; only its outputs are kept, no picture.

    Args:
        model: the fp32 graph.
        golden: inputs and outputs of the source model.
        batches: the pictures, gone through anew for every graph; None without any.
        precision: whose standard holds.
        open_graph: makes the runners.
        tokens: that leave the last reduction; the patches by default.
        report: told the share of a pass over the pictures that is done.
    """

    def __init__(
        self,
        model: ir.Model,
        golden: Golden,
        batches: Iterable[np.ndarray] | None,
        precision: Precision,
        open_graph: Callable[[bytes], Runner],
        *,
        tokens: int | None = None,
        report: Callable[[float], None] | None = None,
    ) -> None:
        self._golden, self._batches, self._precision = golden, batches, precision
        self._open, self._tokens, self._report = open_graph, tokens, report
        self._reference = None if batches is None else _as_golden(self._answers(model, batches))

    def judge(self, model: ir.Model) -> tuple[Parity, Parity | None]:
        """The agreement of a lowered graph, emulated, on the golden inputs, and on the pictures."""
        judged = emulated(model)
        with self._open(_bytes(judged)) as runner:
            on_golden = agree(self._golden, runner, self._precision, tokens=self._tokens)
        if self._batches is None or self._reference is None:
            return on_golden, None
        outputs = self._answers(judged, self._batches)
        return on_golden, judge(self._reference, outputs, self._precision, tokens=self._tokens)

    def _answers(self, model: ir.Model, batches: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """Every output on every picture."""
        parts: list[dict[str, np.ndarray]] = []
        total = length_hint(batches)
        with self._open(_bytes(model)) as runner:
            for batch in batches:
                parts.append(runner(batch))
                if self._report is not None and total:
                    self._report(min(len(parts) / total, 1.0))
        # A last batch that was filled up repeats pictures, which would count twice.
        pictures = getattr(batches, "pictures", None)
        return {name: np.concatenate([part[name] for part in parts])[:pictures] for name in parts[0]}


def _as_golden(outputs: Mapping[str, np.ndarray]) -> Golden:
    count = len(outputs["logits"])
    names = tuple(f"calibration picture {i + 1}" for i in range(count))
    nothing = np.empty((count, 0, 0, 0), np.float32)  # `judge` looks at no image
    return Golden(names, nothing, outputs["logits"], outputs.get("depth"), None, outputs.get("assignment"))


def _bytes(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString()
