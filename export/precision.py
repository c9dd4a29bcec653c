"""A graph in the precision that was asked for, proved to answer as the fp32 graph does, or refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgevit.errors import CheckFailed, InputError
from edgevit.parity import Golden
from edgevit.precision_record import PrecisionReport, Retry, Rung
from edgevit.spec import Precision
from edgevit.targets import Runtime

from .drift import Drift, drift
from .fullest import fullest
from .linears import activations_of, linears_of
from .precision_report import largest_values, node_shares, weight_bytes
from .prove import Proof
from .ranges import OpenGraph, measure_ranges
from .recipe import Made, Recipe
from .sampled import sampled

__all__ = ["PrecisionReport", "Retry", "with_precision"]

_RETRIES = 8


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
) -> tuple[ir.Model, PrecisionReport, Recipe]:
    """Lower a graph and prove it, giving back fp32 to what fails until it holds.

    The result is judged by emulation (`emulate`) on the golden inputs against the source model, and on the calibration
    pictures against the fp32 graph. Where it fails, the first part of the model that drifts is widened: it stays in
    fp32, or of an int8 graph its worst linear stays in float.

    Of a graph with branches ranges and drift are those of its last rungs (`fullest`), which compute all tokens; what is
    judged is the graph itself, in the rungs that the inputs take. That ranges are also those of tokens that are done
    costs little, since norms give all tokens about the same: on 32 pictures, of whose tokens 6, 3 and 2 % went on, a
    scale of steel-adaptive was up to 20 % wider than for those alone, 4 % in the mean. And few tokens that go on make
    a poor sample of those that may.

    Args:
        model: a finished fp32 graph; it is not changed. One with branches can become int8 alone, for ONNX Runtime.
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

    Returns:
        The graph in the precision, what is known of it, and how any graph that differs in its rungs becomes the same.

    Raises:
        InputError: fp32; int8 without calibration pictures; halves in a graph with branches; one not in fp32.
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
    own, whole = _golden_batches(golden, model), fullest(model)
    ranges = measure_ranges(
        whole,
        own if batches is None else batches,
        open_graph,
        histograms=activations_of(whole) if precision == "int8" else (),
        state=state,
        report=lambda share: say(0.4 * share),
        note=note,
    )
    proof = Proof(
        model, golden, batches, precision, open_graph, tokens=tokens, report=lambda share: say(0.4 + 0.6 * share)
    )
    recipe, retries = Recipe(precision, runtime, ranges), list[Retry]()
    while True:
        made = recipe.made(model)
        on_golden, on_pictures = proof.judge(made.model)
        faults = [*on_golden.faults, *(on_pictures.faults if on_pictures is not None else ())]
        flat = fullest(made.model)
        ladder = drift(whole, flat, own, open_graph)
        if not faults:
            samples, picks = sampled(whole, own, open_graph)
            told = PrecisionReport(
                requested=precision,
                nodes=node_shares(flat),
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
            return made.model, told, recipe
        offender = _offender(ladder, recipe.parts)
        linear = None
        if precision == "int8" and offender is not None:
            linear = _worst_linear(whole, flat, made, offender.part, own, open_graph)
        if len(retries) == _RETRIES or offender is None or (linear is None and not recipe.has_half):
            tried = ", ".join(retry.part for retry in retries) or "nothing, for no part drifts"
            raise CheckFailed(
                f"{precision} does not answer as fp32: {faults[0]}; kept in a higher precision without success: "
                f"{tried}; export with another precision"
            )
        recipe = recipe.keeping(linear=linear) if linear is not None else recipe.keeping(part=offender.part)
        retries.append(Retry(linear or offender.part, faults[0]))


def _offender(ladder: Drift, parts: Collection[str]) -> Rung | None:
    """The part to widen: the first offender, else whichever adds most, among those that are not fp32 yet."""
    left = Drift(tuple(rung for rung in ladder.rungs if rung.part not in parts), ladder.scores)
    return left.first_offender or left.steepest


def _worst_linear(
    whole: ir.Model, flat: ir.Model, made: Made, part: str, batches: Sequence[np.ndarray], open_graph: OpenGraph
) -> str | None:
    """The int8 linear of a part, or else of the graph, whose result is the farthest from fp32."""
    kept = {name.partition(":")[0] for name in made.float_linears}
    linears = [linear for linear in linears_of(whole) if linear.name not in kept]
    results = {str(linear.node.outputs[0].name): linear.name for linear in linears}
    found = drift(whole, flat, batches, open_graph, only=tuple(results)).rungs
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
