"""Agreement: does an artefact of lower precision answer as the fp32 reference does, as far as its precision lets it?

Half of the digits gone, logits and scores all move a little, so tolerances that prove a graph equal (`edgevit.parity`)
say nothing. What counts are shares: of images with the same decision, of selected tokens that are the same, and how far
a logit went compared with the spread of that image's logits. Every image that decides otherwise is listed, with the
margin by which the reference preferred its own class. Where that is less than the precision resolves, the two classes
are a near-tie, which is listed too and no fault, as long as that excuses no more than half of the images.

Tokens are followed to the patches that they stand for, so that a model which merges and then routes can be judged even
where a merge went otherwise. How patches were grouped is reported and, as between two fp32 runtimes, no fault alone.

Does not know: torch, ONNX, how a precision is carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgevit.errors import InputError
from edgevit.parity import (
    DecidedOtherwise,
    Golden,
    MergedOtherwise,
    Parity,
    check_shapes,
    contradicting,
    out_of_range,
    run_golden,
)
from edgevit.runner import Runner
from edgevit.spec import Precision

__all__ = ["STANDARDS", "Standard", "agree", "judge", "standard_of"]


@dataclass(frozen=True)
class Standard:
    """What is asked of a precision.

    Attributes:
        decisions: share of the images that must be decided as in the reference, near-ties aside.
        tokens: share of the selected tokens that must be the same, at each step over all images.
        logits: largest difference of a logit, as a share of the spread of that image's logits in the reference.
        near_tie: two classes closer than this share of the spread are a near-tie: what the type resolves next to 1.
    """

    decisions: float
    tokens: float
    logits: float
    near_tie: float


# The logits' share is a net for what is plainly broken, not a measure of quality: a token that is routed otherwise
# moves them by more than rounding does, and the decisions say whether that mattered.
STANDARDS: Mapping[Precision, Standard] = {
    "fp16": Standard(decisions=0.995, tokens=0.99, logits=0.1, near_tie=2.0**-11),
    "bf16": Standard(decisions=0.99, tokens=0.95, logits=0.25, near_tie=2.0**-8),
    "int8": Standard(decisions=0.99, tokens=0.90, logits=0.25, near_tie=2.0**-7),
}


def standard_of(precision: Precision) -> Standard:
    """What is asked of a lower precision.

    Raises:
        InputError: it is fp32, which is compared by tolerances.
    """
    if precision not in STANDARDS:
        raise InputError(f"agreement is for {', '.join(STANDARDS)}; {precision} is compared by tolerances instead")
    return STANDARDS[precision]


def agree(
    golden: Golden,
    runner: Runner,
    precision: Precision,
    report: Callable[[int], None] | None = None,
    *,
    tokens: int | None = None,
) -> Parity:
    """Run an artefact of lower precision on the golden inputs and judge it.

    Args:
        golden: inputs and reference outputs, of fp32.
        runner: the artefact, entered; its batch may be of any size.
        precision: of the artefact.
        report: told the number of images done.
        tokens: that leave the last reduction, which no number in an assignment may reach; the patches by default.

    Raises:
        InputError: the artefact takes or gives other shapes than the golden samples have, or the precision is fp32.
    """
    standard_of(precision)
    return judge(golden, run_golden(golden.images, runner, report), precision, tokens=tokens)


def judge(
    golden: Golden, outputs: Mapping[str, np.ndarray], precision: Precision, *, tokens: int | None = None
) -> Parity:
    """`agree` on outputs that are there already; the images of `golden` are not looked at.

    Args:
        golden: the reference's outputs on n images.
        outputs: the artefact's on the same: `logits` and, where there is a trace, `depth`, `counts`, `assignment`.
        precision: of the artefact.
        tokens: see `agree`.

    Raises:
        InputError: see `agree`.
    """
    standard = standard_of(precision)
    check_shapes(golden, dict(outputs))
    spread = np.maximum(np.ptp(golden.logits, axis=1), np.finfo(np.float32).tiny)
    finite = np.isfinite(outputs["logits"]).all(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):  # a logit that is no number is a fault of its own
        difference = np.abs(outputs["logits"] - golden.logits).max(axis=1)
        share = difference / spread
    faults = [f"{golden.names[i]}: logits are not finite" for i in np.flatnonzero(~finite)]
    otherwise = _decided_otherwise(golden, outputs["logits"], finite, spread, standard)
    faults += _judge_decisions(len(golden.names), int((~finite).sum()), otherwise, standard)
    far = np.flatnonzero(finite & (share > standard.logits))
    faults += [
        f"{golden.names[i]}: logits differ by {share[i]:.2g} of their spread (allowed {standard.logits:g})" for i in far
    ]
    patches_agreeing, merged = _grouped(golden, outputs)
    if "assignment" in outputs:
        wrong = np.flatnonzero(out_of_range(outputs["assignment"], tokens))
        faults += [f"{golden.names[i]}: a patch is assigned to no token that there is" for i in wrong]
    alike, selected = _selected(golden, outputs)
    faults += [
        f"{100 * same:.4g} % of the tokens selected at step {step} are the same (wanted {100 * standard.tokens:g} %)"
        for step, same in enumerate(selected, start=2)
        if same < standard.tokens
    ]
    if "depth" in outputs and "counts" in outputs:
        wrong = np.flatnonzero(contradicting(dict(outputs)))
        faults += [f"{golden.names[i]}: depth and counts contradict each other" for i in wrong]
    return Parity(
        inputs=len(golden.names),
        atol=0.0,
        rtol=standard.logits,
        largest_difference=float(difference[finite].max(initial=0)),
        largest_tied_difference=0.0,
        decisions_agreeing=int(finite.sum()) - len(otherwise),
        tokens_agreeing=alike,
        near_ties=(),
        faults=tuple(faults),
        patches_agreeing=patches_agreeing,
        merged_otherwise=merged,
        largest_share=float(share[finite].max(initial=0)),
        selected_agreeing=selected,
        decided_otherwise=otherwise,
    )


def _decided_otherwise(
    golden: Golden, logits: np.ndarray, finite: np.ndarray, spread: np.ndarray, standard: Standard
) -> tuple[DecidedOtherwise, ...]:
    wanted, got = golden.logits.argmax(axis=1), logits.argmax(axis=1)
    result = []
    for i in np.flatnonzero(finite & (wanted != got)):
        margin = float((golden.logits[i, wanted[i]] - golden.logits[i, got[i]]) / spread[i])
        near = margin < standard.near_tie
        result.append(DecidedOtherwise(golden.names[i], int(wanted[i]), int(got[i]), margin, near))
    return tuple(result)


def _judge_decisions(
    images: int, broken: int, otherwise: tuple[DecidedOtherwise, ...], standard: Standard
) -> list[str]:
    excused = sum(one.near_tie for one in otherwise)
    wrong = [one for one in otherwise if not one.near_tie]
    if 2 * excused > images:
        return [f"{excused} of {images} inputs decide otherwise at near-ties: too few are left to judge by"]
    if images - broken - len(wrong) >= standard.decisions * images:
        return []
    worst = max(wrong, key=lambda one: one.margin, default=None)
    at = f"; {worst.image} at a margin of {worst.margin:.2g} of the spread" if worst is not None else ""
    return [f"{images - broken - len(wrong)} of {images} decisions agree (wanted {100 * standard.decisions:g} %){at}"]


def _grouped(golden: Golden, outputs: Mapping[str, np.ndarray]) -> tuple[float | None, tuple[MergedOtherwise, ...]]:
    """Share of patches in the same group, and the images where some are not; a group is known by its first patch."""
    if golden.assignment is None or "assignment" not in outputs:
        return None, ()
    elsewhere = _first_of_group(outputs["assignment"]) != _first_of_group(golden.assignment)
    gaps = [None] * len(golden.names) if golden.gap is None else golden.gap.tolist()
    named = zip(golden.names, elsewhere.sum(axis=1).tolist(), gaps, strict=True)
    return 1 - float(elsewhere.mean()), tuple(MergedOtherwise(name, n, gap) for name, n, gap in named if n)


def _first_of_group(assignment: np.ndarray) -> np.ndarray:
    """n x N token numbers to the index of the first patch with the same number; -1 where it was dropped.

    Numbers themselves shift for all tokens behind one that was merged otherwise, so they cannot be compared.
    """
    result = np.empty_like(assignment)
    for row, tokens in zip(result, assignment, strict=True):
        _, first, group = np.unique(tokens, return_index=True, return_inverse=True)
        row[:] = np.where(tokens < 0, -1, first[group])
    return result


def _selected(golden: Golden, outputs: Mapping[str, np.ndarray]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """For each step after the first: the share of patches alike, and the share of the selected ones that are the same.

    The second is twice the patches selected by both over all selected by either: with equal counts the plain share, and
    1 where neither selects any.
    """
    if golden.depth is None or "depth" not in outputs or "counts" not in outputs:
        return (), ()
    wanted = _of_patches(golden.depth, golden.assignment)
    got = _of_patches(outputs["depth"], outputs.get("assignment", golden.assignment))
    alike, selected = [], []
    for step in range(1, outputs["counts"].shape[1]):
        left, right = wanted > step, got > step
        either = int(left.sum()) + int(right.sum())
        alike.append(float((left == right).mean()))
        selected.append(2 * int((left & right).sum()) / either if either else 1.0)
    return tuple(alike), tuple(selected)


def _of_patches(depth: np.ndarray, assignment: np.ndarray | None) -> np.ndarray:
    """Depths n x T of tokens as n x N of the patches in them; 0 where a patch is in no token that there is."""
    if assignment is None:
        return depth
    taken = np.take_along_axis(depth, np.clip(assignment, 0, depth.shape[1] - 1), axis=1)
    return np.where((assignment < 0) | (assignment >= depth.shape[1]), 0, taken)
