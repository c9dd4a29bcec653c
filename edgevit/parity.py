"""Parity: does an artefact answer as its source model does? numpy and the hub only, so that a device can ask too.

The answer is judged on three things: the logits, the decision, and the tokens selected at every step. Two equal
scores may be ranked either way by two correct implementations, so a differing token whose score lies within
`NEAR_TIE` of the score that decided is listed as a near-tie and no fault. What follows from one, in later steps and
in the logits of that image, is attributed to it.

Where a reduction merges or drops tokens, the patches that ended in another token are listed. That alone is no fault;
wrong logits are one, unless the closest call among the choices of that image was a near-tie. Tokens that are routed
after a merge that went otherwise are other tokens: they are not compared, which only a near-tie may excuse.

Does not know: torch, ONNX, how the reference was computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgevit.errors import InputError
from edgevit.runner import Runner

__all__ = [
    "NEAR_TIE",
    "DecidedOtherwise",
    "Golden",
    "MergedOtherwise",
    "NearTie",
    "Parity",
    "check_shapes",
    "compare",
    "contradicting",
    "out_of_range",
    "run_golden",
]

# Share of the spread of a step's scores below which two of them count as equal.
NEAR_TIE = 1e-5


@dataclass(frozen=True)
class Golden:
    """Inputs with the reference's outputs.

    Attributes:
        names: what each input is, n.
        images: n x 3 x H x W float32, each value exact in float16 (they are stored so).
        logits: n x C float32.
        depth: n x T int32, steps each of the T routed tokens takes part in; None without routing. The tokens are the
            patches, unless some were merged before the first step.
        margin: n x (R - 1) x T float32, for each step after the first how far each candidate's score is from the
            score that decided, as a share of the spread; infinite for tokens that were no candidates. None
            without routing.
        assignment: n x N int32, the output token that each of the N patches is part of, -1 where it was dropped;
            None without a reduction.
        gap: n float32, the smallest gap between two scores that decided a merge or a selection, as a share of the
            spread; None where nothing was ranked.
    """

    names: tuple[str, ...]
    images: np.ndarray
    logits: np.ndarray
    depth: np.ndarray | None = None
    margin: np.ndarray | None = None
    assignment: np.ndarray | None = None
    gap: np.ndarray | None = None

    def to_arrays(self) -> dict[str, np.ndarray]:
        """As named arrays for an npz file."""
        names = np.frombuffer("\n".join(self.names).encode(), np.uint8)  # an npz of plain numbers holds no text
        arrays: dict[str, np.ndarray] = {
            "names": names,
            "images": self.images.astype(np.float16),
            "logits": self.logits,
        }
        if self.depth is not None and self.margin is not None:
            arrays |= {"depth": self.depth, "margin": self.margin}
        if self.assignment is not None:
            arrays["assignment"] = self.assignment
        if self.gap is not None:
            arrays["gap"] = self.gap
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Golden:
        """What `to_arrays` gave.

        Raises:
            InputError: an array is missing, or they differ in length or shape.
        """
        missing = [name for name in ("names", "images", "logits") if name not in arrays]
        if missing:
            raise InputError(
                f"golden samples lack {', '.join(missing)}; wanted a bundle that edgevit wrote: export again"
            )
        names = tuple(arrays["names"].tobytes().decode(errors="replace").split("\n"))
        images, logits, depth, margin = (arrays.get(key) for key in ("images", "logits", "depth", "margin"))
        assert images is not None, "asked for above"
        assert logits is not None, "asked for above"
        n = len(names)
        shaped = images.ndim == 4 and logits.ndim == 2 and len(images) == len(logits) == n
        if depth is not None and margin is not None:
            shaped = shaped and depth.ndim == 2 and margin.ndim == 3 and len(depth) == n
            shaped = shaped and (margin.shape[0], margin.shape[2]) == depth.shape
        assignment, gap = arrays.get("assignment"), arrays.get("gap")
        if assignment is not None:
            shaped = shaped and assignment.ndim == 2 and len(assignment) == n and assignment.dtype.kind == "i"
        if gap is not None:
            shaped = shaped and assignment is not None and gap.shape == (n,)
        if not shaped or (depth is None) != (margin is None):
            raise InputError("golden samples do not fit each other; wanted a bundle that edgevit wrote: export again")
        return cls(names, images.astype(np.float32), logits, depth, margin, assignment, gap)


@dataclass(frozen=True)
class NearTie:
    """A token selected otherwise because its score all but equals the one that decided."""

    image: str
    step: int
    patch: int
    margin: float


@dataclass(frozen=True)
class MergedOtherwise:
    """An image some of whose patches ended in another output token than in the reference.

    Attributes:
        image: its name.
        patches: how many.
        gap: the closest call among the choices of the reference, as a share of the spread; None if none is known.
    """

    image: str
    patches: int
    gap: float | None

    @property
    def near_tie(self) -> bool:
        return self.gap is not None and self.gap < NEAR_TIE


@dataclass(frozen=True)
class DecidedOtherwise:
    """An image that is taken for another class than the reference takes it for.

    Attributes:
        image: its name.
        wanted: index of the reference's class.
        got: index of the class it is taken for.
        margin: by which the reference prefers its own class to that one, as a share of the spread of its logits.
        near_tie: whether that is less than the precision resolves.
    """

    image: str
    wanted: int
    got: int
    margin: float
    near_tie: bool


@dataclass(frozen=True)
class Parity:
    """The outcome of a comparison: by tolerances (`compare`), or by shares (`edgevit.agreement.agree`).

    Attributes:
        inputs: how many were compared.
        atol: absolute tolerance on logits.
        rtol: the same relative to the reference's logit; of an agreement, relative to the spread of an image's logits.
        largest_difference: of a logit, over the images without a near-tie.
        largest_tied_difference: of a logit, over the images with one, which tolerances do not judge.
        decisions_agreeing: images with the same top class.
        tokens_agreeing: for each step after the first, the share of (image, token) alike; empty without a trace.
            Images in `merged_otherwise` are left out, since their tokens are others.
        near_ties: the tokens that differ at a near-tie.
        faults: one line for each image that is wrong.
        patches_agreeing: share of (image, patch) that ended in the same output token; None without a reduction's trace.
        merged_otherwise: the images in which some did not.
        largest_share: of an agreement: the largest difference of a logit as a share of the spread of that image's.
        selected_agreeing: of an agreement: for each step after the first, the share of the selected tokens that are
            the same.
        decided_otherwise: of an agreement: the images of another decision.
    """

    inputs: int
    atol: float
    rtol: float
    largest_difference: float
    largest_tied_difference: float
    decisions_agreeing: int
    tokens_agreeing: tuple[float, ...]
    near_ties: tuple[NearTie, ...]
    faults: tuple[str, ...]
    patches_agreeing: float | None = None
    merged_otherwise: tuple[MergedOtherwise, ...] = ()
    largest_share: float | None = None
    selected_agreeing: tuple[float, ...] = ()
    decided_otherwise: tuple[DecidedOtherwise, ...] = ()

    @property
    def near_tied(self) -> int:
        """How many decisions fell otherwise at a near-tie: tokens selected, and images merged."""
        return len(self.near_ties) + sum(image.near_tie for image in self.merged_otherwise)

    @property
    def passed(self) -> bool:
        return not self.faults


def compare(
    golden: Golden,
    runner: Runner,
    atol: float,
    rtol: float,
    report: Callable[[int], None] | None = None,
    *,
    tokens: int | None = None,
) -> Parity:
    """Run an artefact on the golden inputs and judge it.

    Args:
        golden: inputs and reference outputs.
        runner: the artefact, entered; its batch may be of any size.
        atol: absolute tolerance on logits.
        rtol: the same relative to the reference's logit.
        report: told the number of images done.
        tokens: that leave the last reduction, which no number in an assignment may reach; the patches by default.

    Raises:
        InputError: the artefact takes or gives other shapes than the golden samples have.
    """
    outputs = run_golden(golden.images, runner, report)
    check_shapes(golden, outputs)
    with np.errstate(invalid="ignore"):  # a logit that is no number is a fault of its own, below
        difference = np.abs(outputs["logits"] - golden.logits)
    within = (difference <= atol + rtol * np.abs(golden.logits)).all(axis=1)
    same_decision = outputs["logits"].argmax(axis=1) == golden.logits.argmax(axis=1)
    faults = [f"{name}: logits are not finite" for name in _named(golden, ~np.isfinite(outputs["logits"]).all(axis=1))]
    near_ties: list[NearTie] = []
    agreeing: tuple[float, ...] = ()
    tied = np.zeros(len(golden.images), bool)
    remerged = tied  # images some of whose patches ended in another token, so that their tokens are not comparable
    merged: tuple[MergedOtherwise, ...] = ()
    patches_agreeing = None
    if golden.assignment is not None and "assignment" in outputs:
        elsewhere = outputs["assignment"] != golden.assignment
        patches_agreeing = 1 - float(elsewhere.mean())
        merged = _merged_otherwise(golden, elsewhere.sum(axis=1))
        if golden.gap is not None:  # a soft mask decides nothing by where a patch went most
            remerged = elsewhere.any(axis=1)
            tied = remerged & (golden.gap < NEAR_TIE)
        faults += [
            f"{name}: a patch is assigned to no token that there is"
            for name in _named(golden, out_of_range(outputs["assignment"], tokens))
        ]
    if golden.depth is not None and golden.margin is not None and "depth" in outputs:
        same, steps = ~remerged, range(1, golden.margin.shape[1] + 1)
        alike = [((outputs["depth"] > r) == (golden.depth > r))[same] for r in steps]
        agreeing = tuple(float(step.mean()) if step.size else 0.0 for step in alike)
        for i, name in enumerate(golden.names):
            if remerged[i]:
                faults += [f"{name}: tokens were merged otherwise than in the reference"] * bool(~tied[i])
                continue
            ties, fault = _tokens(name, golden.depth[i], golden.margin[i], outputs["depth"][i])
            near_ties += ties
            tied[i] = bool(ties)
            faults += fault
        faults += [f"{name}: depth and counts contradict each other" for name in _named(golden, contradicting(outputs))]
    for wrong in np.flatnonzero(~(within & same_decision) & ~tied):
        what = f"logits differ by {difference[wrong].max():.2e}" if not within[wrong] else "another decision"
        faults.append(f"{golden.names[wrong]}: {what} (allowed {atol:g} + {rtol:g} of the value)")
    if 2 * int(tied.sum()) > len(tied):
        faults.append(f"{int(tied.sum())} of {len(tied)} inputs differ at near-ties: too few are left to judge by")
    clean, unjudged = difference[~tied], difference[tied]
    return Parity(
        inputs=len(golden.images),
        atol=atol,
        rtol=rtol,
        largest_difference=float(clean.max()) if clean.size else 0.0,
        largest_tied_difference=float(unjudged.max()) if unjudged.size else 0.0,
        decisions_agreeing=int(same_decision.sum()),
        tokens_agreeing=agreeing,
        near_ties=tuple(near_ties),
        faults=tuple(faults),
        patches_agreeing=patches_agreeing,
        merged_otherwise=merged,
    )


def check_shapes(golden: Golden, outputs: dict[str, np.ndarray]) -> None:
    """Refuse outputs that cannot be held against the reference's: numpy would broadcast them, or fail.

    Raises:
        InputError: one has another shape.
    """
    for name, wanted in (("logits", golden.logits), ("depth", golden.depth), ("assignment", golden.assignment)):
        if wanted is not None and name in outputs and outputs[name].shape != wanted.shape:
            raise InputError(
                f"golden {name} are {wanted.shape[1:]} an image, the graph gives {outputs[name].shape[1:]}; "
                "export the bundle again"
            )


def _merged_otherwise(golden: Golden, patches: np.ndarray) -> tuple[MergedOtherwise, ...]:
    """The images of which any of the n numbers of differing patches is not 0."""
    gaps = [None] * len(golden.names) if golden.gap is None else golden.gap.tolist()
    named = zip(golden.names, patches.tolist(), gaps, strict=True)
    return tuple(MergedOtherwise(name, count, gap) for name, count, gap in named if count)


def out_of_range(assignment: np.ndarray, tokens: int | None) -> np.ndarray:
    """Which images have a patch in a token that there is not: n booleans."""
    limit = assignment.shape[1] if tokens is None else tokens
    wrong: np.ndarray = np.any((assignment < -1) | (assignment >= limit), axis=1)
    return wrong


def _named(golden: Golden, wrong: np.ndarray) -> list[str]:
    """Names of the images marked in a mask of n booleans."""
    return [name for name, marked in zip(golden.names, wrong, strict=True) if marked]


def contradicting(outputs: dict[str, np.ndarray]) -> np.ndarray:
    """Which images have a depth out of range, or counts that do not follow from it: n booleans."""
    depth, counts = outputs["depth"], outputs["counts"]
    steps = counts.shape[1]
    follows = np.stack([(depth > r).sum(axis=1) for r in range(steps)], axis=1)
    wrong: np.ndarray = np.any((depth < 1) | (depth > steps), axis=1) | np.any(follows != counts, axis=1)
    return wrong


def _tokens(name: str, wanted: np.ndarray, margin: np.ndarray, got: np.ndarray) -> tuple[list[NearTie], list[str]]:
    """Judge the tokens of one image: depths N and N, margins (R - 1) x N."""
    for step in range(1, len(margin) + 1):
        differing = np.flatnonzero((got > step) != (wanted > step))
        if not differing.size:
            continue
        # Later steps see other tokens once one differs, so the first step that differs is the one judged.
        margins = margin[step - 1, differing]
        if (margins < NEAR_TIE).all():
            return [NearTie(name, step + 1, int(p), float(m)) for p, m in zip(differing, margins, strict=True)], []
        worst = float(margins.max())
        return [], [
            f"{name}: {differing.size} tokens differ at step {step + 1}, at margins up to {worst:.2e} of the spread"
        ]
    return [], []


def run_golden(images: np.ndarray, runner: Runner, report: Callable[[int], None] | None) -> dict[str, np.ndarray]:
    """Every output of every image, whatever the runner's batch."""
    batch, *shape = runner.input.shape
    if list(images.shape[1:]) != shape:
        raise InputError(
            f"golden images are {images.shape[1:]}, the graph takes {tuple(shape)}; export the bundle again"
        )
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        filled = np.concatenate([chunk, np.repeat(chunk[-1:], batch - len(chunk), axis=0)])
        outputs = runner(np.ascontiguousarray(filled))
        parts.append({name: value[: len(chunk)] for name, value in outputs.items()})
        if report:
            report(start + len(chunk))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
