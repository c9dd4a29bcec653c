"""Parity: does an artefact answer as its source model does? numpy and the hub only, so that a device can ask too.

The answer is judged on three things: the logits, the decision, and the tokens selected at every step. Two equal
scores may be ranked either way by two correct implementations, so a differing token whose score lies within
`NEAR_TIE` of the score that decided is listed as a near-tie and no fault. What follows from one, in later steps and
in the logits of that image, is attributed to it.

Does not know: torch, ONNX, how the reference was computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgevit.errors import InputError
from edgevit.runner import Runner

__all__ = ["NEAR_TIE", "Golden", "NearTie", "Parity", "compare"]

# Share of the spread of a step's scores below which two of them count as equal.
NEAR_TIE = 1e-5


@dataclass(frozen=True)
class Golden:
    """Inputs with the reference's outputs.

    Attributes:
        names: what each input is, n.
        images: n x 3 x H x W float32, each value exact in float16 (they are stored so).
        logits: n x C float32.
        depth: n x N int32, steps each patch takes part in; None without routing.
        margin: n x (R - 1) x N float32, for each step after the first how far each candidate's score is from the
            score that decided, as a share of the spread; infinite for patches that were no candidates. None
            without routing.
    """

    names: tuple[str, ...]
    images: np.ndarray
    logits: np.ndarray
    depth: np.ndarray | None = None
    margin: np.ndarray | None = None

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
        if not shaped or (depth is None) != (margin is None):
            raise InputError("golden samples do not fit each other; wanted a bundle that edgevit wrote: export again")
        return cls(names, images.astype(np.float32), logits, depth, margin)


@dataclass(frozen=True)
class NearTie:
    """A token selected otherwise because its score all but equals the one that decided."""

    image: str
    step: int
    patch: int
    margin: float


@dataclass(frozen=True)
class Parity:
    """The outcome of a comparison.

    Attributes:
        inputs: how many were compared.
        atol: absolute tolerance on logits.
        rtol: the same relative to the reference's logit.
        largest_difference: of a logit, over the images without a near-tie.
        largest_tied_difference: of a logit, over the images with one, which tolerances do not judge.
        decisions_agreeing: images with the same top class.
        tokens_agreeing: for each step after the first, the share of (image, patch) alike; empty without a trace.
        near_ties: the tokens that differ at a near-tie.
        faults: one line for each image that is wrong.
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

    @property
    def passed(self) -> bool:
        return not self.faults


def compare(
    golden: Golden, runner: Runner, atol: float, rtol: float, report: Callable[[int], None] | None = None
) -> Parity:
    """Run an artefact on the golden inputs and judge it.

    Args:
        golden: inputs and reference outputs.
        runner: the artefact, entered; its batch may be of any size.
        atol: absolute tolerance on logits.
        rtol: the same relative to the reference's logit.
        report: told the number of images done.

    Raises:
        InputError: the artefact takes another image size than the golden inputs have.
    """
    outputs = _run(golden.images, runner, report)
    with np.errstate(invalid="ignore"):  # a logit that is no number is a fault of its own, below
        difference = np.abs(outputs["logits"] - golden.logits)
    within = (difference <= atol + rtol * np.abs(golden.logits)).all(axis=1)
    same_decision = outputs["logits"].argmax(axis=1) == golden.logits.argmax(axis=1)
    faults = [f"{name}: logits are not finite" for name in _named(golden, ~np.isfinite(outputs["logits"]).all(axis=1))]
    near_ties: list[NearTie] = []
    agreeing: tuple[float, ...] = ()
    tied = np.zeros(len(golden.images), bool)
    if golden.depth is not None and golden.margin is not None and "depth" in outputs:
        steps = range(1, golden.margin.shape[1] + 1)
        agreeing = tuple(float(((outputs["depth"] > r) == (golden.depth > r)).mean()) for r in steps)
        for i, name in enumerate(golden.names):
            ties, fault = _tokens(name, golden.depth[i], golden.margin[i], outputs["depth"][i])
            near_ties += ties
            tied[i] = bool(ties)
            faults += fault
        faults += [
            f"{name}: depth and counts contradict each other" for name in _named(golden, _contradicting(outputs))
        ]
    for wrong in np.flatnonzero(~(within & same_decision) & ~tied):
        what = f"logits differ by {difference[wrong].max():.2e}" if not within[wrong] else "another decision"
        faults.append(f"{golden.names[wrong]}: {what} (allowed {atol:g} + {rtol:g} of the value)")
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
    )


def _named(golden: Golden, wrong: np.ndarray) -> list[str]:
    """Names of the images marked in a mask of n booleans."""
    return [name for name, marked in zip(golden.names, wrong, strict=True) if marked]


def _contradicting(outputs: dict[str, np.ndarray]) -> np.ndarray:
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


def _run(images: np.ndarray, runner: Runner, report: Callable[[int], None] | None) -> dict[str, np.ndarray]:
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
