"""A graph in the precision that was asked for, proved to answer as the fp32 graph does, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgevit.errors import CheckFailed, InputError
from edgevit.parity import Golden
from edgevit.precision_record import Island, PrecisionReport, Retry, Rung
from edgevit.spec import Precision
from edgevit.targets import Runtime

from .cost import part_of_nodes
from .drift import Drift, drift
from .half import Half, lower
from .islands import islands
from .linears import activations_of, linears_of
from .precision_report import largest_values, node_shares, weight_bytes
from .prove import Proof
from .quantize import quantize_linears
from .ranges import OpenGraph, Ranges, measure_ranges
from .sampled import sampled

__all__ = ["PrecisionReport", "Retry", "with_precision"]

_RETRIES = 8
_FLOAT_REST: tuple[Runtime, ...] = ("ort", "ov")  # where the rest of an int8 graph stays in fp32


def with_precision(
    model: ir.Model,
    precision: Precision,
    *,
    runtime: Runtime,
    golden: Golden,
    open_graph: OpenGraph,
    batches: Iterable[np.ndarray] | None = None,
    tokens: int | None = None,
    state: Path | None = None,
    report: Callable[[float], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> tuple[ir.Model, PrecisionReport]:
    """Lower a graph and prove it, giving back fp32 to what fails until it holds.

    The result is judged by emulation (`emulate`) on the golden inputs against the source model, and on the calibration
    pictures against the fp32 graph. Where it fails, the first part of the model that drifts is widened: it stays in
    fp32, or of an int8 graph its worst linear stays in float.

    Args:
        model: a finished fp32 graph; it is not changed.
        precision: `fp16`, `bf16` or `int8`.
        runtime: which the graph is for: with int8 the rest is fp32 on `ort` and `ov`, fp16 on the others.
        golden: inputs and outputs of the source model.
        open_graph: makes the runners that judge.
        batches: the calibration pictures in tensors of the graph's input, gone through several times
            (`calibration_batches`). Without them ranges of fp16 and bf16 are measured on the golden inputs.
        tokens: that leave the last reduction; the patches by default.
        state: where partly measured ranges are kept (`measure_ranges`).
        report: told the share done, 0 to 1; a retry tells the last part of it again.
        note: told in one line what was done otherwise than asked.

    Raises:
        InputError: fp32; int8 without calibration pictures; a graph with branches, or not in fp32.
        CheckFailed: no graph of this precision answers as it should; the line has what was tried.
    """
    if precision == "fp32":
        raise InputError("fp32 is what the graph has already; ask for fp16, bf16 or int8")
    if batches is None and precision == "int8":
        raise InputError("int8 needs pictures to measure ranges on; name a folder with --calibration-data")
    assert batches is None or iter(batches) is not batches, "an iterator would be used up by the first pass"
    if batches is None and note is not None:
        note(f"{precision} without --calibration-data: ranges were measured on generated inputs, not on pictures")
    say = report or _silent
    own = _golden_batches(golden, model)
    ranges = measure_ranges(
        model,
        own if batches is None else batches,
        open_graph,
        histograms=activations_of(model) if precision == "int8" else (),
        state=state,
        report=lambda share: say(0.4 * share),
        note=note,
    )
    proof = Proof(
        model, golden, batches, precision, open_graph, tokens=tokens, report=lambda share: say(0.4 + 0.6 * share)
    )
    retries: list[Retry] = []
    parts: set[str] = set()
    linears: set[str] = set()
    while True:
        made = _make(model, precision, runtime, ranges, parts, linears)
        on_golden, on_pictures = proof.judge(made.model)
        faults = [*on_golden.faults, *(on_pictures.faults if on_pictures is not None else ())]
        ladder = drift(model, made.model, own, open_graph)
        if not faults:
            samples, picks = sampled(model, own, open_graph)
            return made.model, PrecisionReport(
                requested=precision,
                nodes=node_shares(made.model),
                weight_bytes=weight_bytes(made.model),
                islands=made.islands,
                float_linears=made.float_linears,
                largest=largest_values(ranges.largest),
                calibrated_on=ranges.batches,
                generated=batches is None,
                golden=on_golden,
                pictures=on_pictures,
                retries=tuple(retries),
                rungs=ladder.rungs,
                scores=ladder.scores,
                sampled=samples,
                picks=picks,
            )
        offender = _offender(ladder, parts)
        linear = None
        if precision == "int8" and offender is not None:
            linear = _worst_linear(model, made, offender.part, golden, open_graph)
        if len(retries) == _RETRIES or offender is None or (linear is None and runtime in _FLOAT_REST):
            tried = ", ".join(retry.part for retry in retries) or "nothing, for no part drifts"
            raise CheckFailed(
                f"{precision} does not answer as fp32: {faults[0]}; kept in a higher precision without success: "
                f"{tried}; export with another precision"
            )
        if linear is not None:
            linears.add(linear)
        else:
            parts.add(offender.part)
        retries.append(Retry(linear or offender.part, faults[0]))


@dataclass(frozen=True)
class _Made:
    """A lowered graph, with what was left out."""

    model: ir.Model
    islands: tuple[Island, ...]
    float_linears: tuple[str, ...]


def _make(
    model: ir.Model,
    precision: Precision,
    runtime: Runtime,
    ranges: Ranges,
    parts: set[str],
    linears: set[str],
) -> _Made:
    """The graph in the precision, with those parts in fp32 and those linears in float."""
    made = ir.from_proto(ir.to_proto(model))
    floating: tuple[str, ...] = ()
    if precision == "int8":
        # An x86 CPU without VNNI overflows on 8 bits; where there is VNNI, 7 cost neither time nor answers.
        quantized = quantize_linears(made, ranges, keep=tuple(linears), reduce_range=runtime == "ort")
        floating = tuple(quantized.kept)
        if runtime in _FLOAT_REST:
            return _Made(made, (), floating)
    half: Half = "bf16" if precision == "bf16" else "fp16"
    kept = list(islands(made, ranges.largest, half))
    known = {island.node for island in kept}
    nodes = list(made.graph)
    for node, part in zip(nodes, part_of_nodes(nodes), strict=True):
        if part in parts and node.name not in known:
            kept.append(Island(str(node.name), f"{part} drifted too far in {half}"))
    lower(made, half, [island.node for island in kept])
    return _Made(made, tuple(kept), floating)


def _offender(ladder: Drift, parts: set[str]) -> Rung | None:
    """The part to widen: the first offender, else whichever adds most, among those that are not fp32 yet."""
    left = Drift(tuple(rung for rung in ladder.rungs if rung.part not in parts), ladder.scores)
    return left.first_offender or left.steepest


def _worst_linear(model: ir.Model, made: _Made, part: str, golden: Golden, open_graph: OpenGraph) -> str | None:
    """The int8 linear of a part, or else of the graph, whose result is the farthest from fp32."""
    kept = {name.partition(":")[0] for name in made.float_linears}
    linears = [linear for linear in linears_of(model) if linear.name not in kept]
    results = {str(linear.node.outputs[0].name): linear.name for linear in linears}
    found = drift(model, made.model, _golden_batches(golden, model), open_graph, only=tuple(results)).rungs
    known = [rung for rung in found if rung.error is not None]
    worst = max(
        [rung for rung in known if rung.part == part] or known, key=lambda rung: rung.error or 0.0, default=None
    )
    return results[worst.value] if worst is not None else None


def _golden_batches(golden: Golden, model: ir.Model) -> list[np.ndarray]:
    """The golden images in tensors of the graph's batch, the last one filled up by repeating."""
    shape = model.graph.inputs[0].shape
    assert shape is not None and isinstance(shape[0], int), "a finished graph has a fixed batch"
    starts = range(0, len(golden.images), shape[0])
    chunks = [golden.images[start : start + shape[0]] for start in starts]
    return [np.concatenate([chunk, np.repeat(chunk[-1:], shape[0] - len(chunk), axis=0)]) for chunk in chunks]


def _silent(share: float) -> None:
    """Nobody is listening."""
