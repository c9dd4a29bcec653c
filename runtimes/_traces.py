"""What a graph's trace outputs tell of, and whether they can."""

from __future__ import annotations

import numpy as np

from edgevit.errors import CheckFailed, InputError
from edgevit.manifest import Manifest
from edgevit.spec import ReductionSpec, RoutingSpec


def traced(manifest: Manifest) -> tuple[RoutingSpec | None, ReductionSpec | None]:
    """The routing and the reduction that the outputs tell of; None where there is none, or no trace of it in the graph.

    Raises:
        InputError: a trace has another shape than what it is of.
    """
    shapes = {output.name: output.shape for output in manifest.outputs}
    reduction = manifest.reduction if "assignment" in shapes else None
    routing = manifest.routing if {"depth", "counts"} <= shapes.keys() else None
    wanted: dict[str, tuple[str, int]] = {}
    if reduction is not None:
        wanted["assignment"] = "reduction", reduction.patches
    if routing is not None:
        wanted |= {"depth": ("routing", routing.tokens), "counts": ("routing", routing.steps)}
        if manifest.reduction is not None and reduction is None:
            raise InputError("manifest.json: output depth is of merged tokens and there is no output assignment")
    if "dropped" in shapes:
        if manifest.routing is None:
            raise InputError("manifest.json: output dropped is of steps and there is no routing")
        wanted["dropped"] = "routing", manifest.routing.steps
    batch = shapes["logits"][0]
    for name, (what, size) in wanted.items():
        if shapes[name] != (batch, size):
            raise InputError(f"manifest.json: output {name} is {shapes[name]}, its {what} makes it {(batch, size)}")
    return routing, reduction


def checked_tokens(assignment: np.ndarray, reduction: ReductionSpec) -> np.ndarray:
    """The N patches' tokens as the graph gave them.

    Raises:
        CheckFailed: one is no token that there is.
    """
    if assignment.min() < -1 or assignment.max() >= reduction.tokens[-1]:
        raise CheckFailed("the graph put a patch into a token that it has not; run edgevit verify on the bundle")
    return assignment
