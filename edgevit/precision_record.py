"""What a lower precision came to: `precision.json` in a bundle.

Does not know: how a precision is made or measured, torch, ONNX.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgevit import strict_json
from edgevit.bundle import Bundle
from edgevit.errors import InputError
from edgevit.parity import Parity
from edgevit.spec import Precision

__all__ = [
    "PRECISION_NAME",
    "Island",
    "Largest",
    "Picked",
    "PrecisionReport",
    "Retry",
    "Rung",
    "Sampled",
    "Score",
    "read_precision",
]

PRECISION_NAME = "precision.json"


@dataclass(frozen=True)
class Island:
    """A node that stays in fp32.

    Attributes:
        node: its name.
        reason: in words.
    """

    node: str
    reason: str


@dataclass(frozen=True)
class Rung:
    """The result of one part of the model, in one pass.

    Attributes:
        part: its name: `blocks.3[2]`.
        value: the name of the result in the graph.
        error: Frobenius norm of the difference over that of the reference, over all runs that can be compared; None
            where there is none, or the result is not finite.
        runs: how many could be compared.
        overflowed: whether a number that is finite in the reference is none here.
    """

    part: str
    value: str
    error: float | None
    runs: int
    overflowed: bool


@dataclass(frozen=True)
class Score:
    """What is ranked at one point, over the runs that saw the same tokens up to there.

    Attributes:
        node: the TopK, or the comparison.
        error: largest difference of a score, as a share of the spread of the run's scores.
        margin: smallest distance in the reference between the worst score taken and the best one left, or between a
            score and the number it is compared with, as a share of the spread; None where all are taken.
        flipped: runs that took others.
        runs: how many could be compared.
    """

    node: str
    error: float | None
    margin: float | None
    flipped: int
    runs: int


@dataclass(frozen=True)
class Retry:
    """One widening of what stays in a higher precision.

    Attributes:
        part: the part of the model, or the linear, that was given back its precision.
        because: what was wrong with the graph before.
    """

    part: str
    because: str


@dataclass(frozen=True)
class Largest:
    """A value of the fp32 graph and the largest magnitude it reached on the calibration pictures."""

    value: str
    magnitude: float


@dataclass(frozen=True)
class Sampled:
    """Numbers of the fp32 result of a part of the model, at even distances, for the first golden runs.

    Attributes:
        part: see `Rung`.
        value: the name of the result in the graph.
        numbers: for each run.
    """

    part: str
    value: str
    numbers: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Picked:
    """The indices or the mask by which the fp32 graph picks tokens at one point.

    Attributes:
        value: its name in the graph.
        marks: a checksum of it for each of the runs that are sampled.
    """

    value: str
    marks: tuple[int, ...]


@dataclass(frozen=True)
class PrecisionReport:
    """What a precision came to.

    Attributes:
        requested: the precision asked for.
        nodes: share of the operators that compute in each type; those that only move values are not counted. A linear
            of int8 counts as int8.
        weight_bytes: of the initializers, by type.
        islands: the nodes that stayed in fp32 while the rest became half.
        float_linears: linears that stayed in float while the others became int8, each with why.
        largest: the largest values on the calibration pictures.
        calibrated_on: batches that ranges were measured on; generated inputs if `generated`.
        generated: whether there were no calibration pictures.
        golden: the agreement with the source model on the golden inputs.
        pictures: the agreement with the fp32 graph on the calibration pictures; None without any.
        retries: how the islands were widened, in order.
        rungs: the drift of each part of the model on the golden inputs.
        scores: the drift of what is ranked.
        sampled: some numbers of what each part gives in fp32, so that the ladder can be climbed on another machine.
        picks: what picked tokens in those runs, in fp32.
    """

    requested: Precision
    nodes: dict[str, float]
    weight_bytes: dict[str, int]
    islands: tuple[Island, ...]
    float_linears: tuple[str, ...]
    largest: tuple[Largest, ...]
    calibrated_on: int
    generated: bool
    golden: Parity
    pictures: Parity | None
    retries: tuple[Retry, ...]
    rungs: tuple[Rung, ...]
    scores: tuple[Score, ...]
    sampled: tuple[Sampled, ...]
    picks: tuple[Picked, ...]


def read_precision(bundle: Bundle) -> PrecisionReport:
    """What the precision of a bundle came to.

    Raises:
        InputError: it is an fp32 bundle, or a damaged one.
    """
    if PRECISION_NAME not in bundle.manifest.files:
        raise InputError(
            f"{bundle.path} is {bundle.manifest.precision_achieved} and has no {PRECISION_NAME}; the ladder is for "
            "bundles that were exported with --precision"
        )
    return strict_json.decode(PrecisionReport, bundle.read(PRECISION_NAME), PRECISION_NAME)
