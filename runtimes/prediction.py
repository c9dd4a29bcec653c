"""What a session answers: label, probabilities, what became of each patch, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["MergingTrace", "Prediction", "RoutingTrace", "Timings"]


@dataclass(frozen=True)
class Timings:
    """Nanoseconds of the call of the graph that carried the image; images that shared a batch share them.

    Attributes:
        preprocess_ns: opening, resizing and normalising the images of the batch.
        run_ns: the graph.
        total_ns: from the first image of the batch to the answer.
    """

    preprocess_ns: int
    run_ns: int
    total_ns: int


@dataclass(frozen=True, eq=False)
class RoutingTrace:
    """Where a routed model spent its steps on one image.

    Attributes:
        depth: int32 rows x columns, recursion steps each patch took part in, 1 to R. Patches that were merged before
            the first step have the depth of their token, and one that was dropped there has 0.
        counts: patches active at each of the R steps, or tokens where patches were merged before the first.
    """

    depth: np.ndarray
    counts: tuple[int, ...]

    def to_dict(self) -> dict[str, object]:
        return {"depth": self.depth.tolist(), "counts": list(self.counts)}


@dataclass(frozen=True, eq=False)
class MergingTrace:
    """Which patches of one image became one token.

    Attributes:
        assignment: int32 rows x columns, the output token that each patch is part of, from 0; -1 where it was dropped.
        tokens: that left each block; a single entry for a merge before a recursive stack.
    """

    assignment: np.ndarray
    tokens: tuple[int, ...]

    def to_dict(self) -> dict[str, object]:
        return {"assignment": self.assignment.tolist(), "tokens": list(self.tokens)}


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer for one image.

    Attributes:
        image: the file it came from; None for a picture or an array.
        label: the most probable class; of equal ones the first.
        score: its probability.
        probabilities: of every class, in the order of the labels; they sum to 1.
        routing: None when the graph has no routing or was exported without its trace.
        merging: None when the graph neither merges nor drops tokens, or was exported without its trace.
        timings: where the time went.
        tokens_dropped: at each of the R steps the tokens that wanted it and were left out to keep a deadline; empty
            when the graph has no caps to leave any out.
        late: whether the answer came after the session's deadline all the same. Not part of `to_dict`, since it is of
            the moment and not of the picture.
    """

    image: str | None
    label: str
    score: float
    probabilities: Mapping[str, float]
    routing: RoutingTrace | None
    merging: MergingTrace | None
    timings: Timings
    tokens_dropped: tuple[int, ...] = ()
    late: bool = False

    @property
    def truncated(self) -> bool:
        """Whether tokens were left out to keep a deadline, so that the model might have answered something else."""
        return any(self.tokens_dropped)

    def to_dict(self) -> dict[str, object]:
        """Everything but what is of the moment, in types that JSON has: the same answer always gives the same text."""
        return {
            "image": self.image,
            "label": self.label,
            "score": self.score,
            "probabilities": dict(self.probabilities),
            "routing": None if self.routing is None else self.routing.to_dict(),
            "merging": None if self.merging is None else self.merging.to_dict(),
            "truncated": self.truncated,
            "tokens_dropped": list(self.tokens_dropped),
        }
