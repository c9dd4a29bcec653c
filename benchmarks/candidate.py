"""What is measured: a runner that a child process can build from a function's name and plain arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgevit.errors import InputError

__all__ = ["Candidate", "validate_together"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One runner under measurement.

    A process of its own builds it, so nothing live is held here: a factory by name, and arguments that survive JSON.

    Attributes:
        name: what reports call it; unique within one measurement.
        factory: `module:function`; called with `arguments` it returns a `Runner` that is not entered yet.
        arguments: keyword arguments of the factory, JSON values only (bundle path, runtime, threads, ...).
        images: .npy file of preprocessed float32 images, M x 3 x H x W, in the order that every candidate shares;
            None for seeded noise.
        worst_case_of: name of the candidate whose worst case this one is by construction (every step at its fullest);
            reports show it beside that candidate's observed distribution.
    """

    name: str
    factory: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    images: Path | None = None
    worst_case_of: str | None = None

    def validate(self) -> None:
        """Check what can be checked without building the runner.

        Raises:
            InputError: an empty name, a factory that is not `module:function`, arguments that are not JSON, or an
                images file that is not there.
        """
        if not self.name.strip():
            raise InputError("a candidate has an empty name; give each candidate a name of its own")
        module, colon, function = self.factory.partition(":")
        if not (module and colon and function.isidentifier()):
            raise InputError(f"factory '{self.factory}' of candidate '{self.name}' is not 'module:function'")
        try:
            json.dumps(dict(self.arguments), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"arguments of candidate '{self.name}' must be JSON values ({error}); pass paths as strings"
            ) from None
        if self.images is not None and not self.images.is_file():
            raise InputError(f"images file '{self.images}' of candidate '{self.name}' does not exist")


def validate_together(candidates: Sequence[Candidate]) -> None:
    """Check candidates that are to be measured side by side.

    Raises:
        InputError: there is none, two share a name, only some have images, or one is the worst case of none here.
    """
    if not candidates:
        raise InputError("nothing to measure; give at least one candidate")
    for candidate in candidates:
        candidate.validate()
    names = [candidate.name for candidate in candidates]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two candidates are named '{name}'; give each a name of its own")
    with_images = [candidate.name for candidate in candidates if candidate.images is not None]
    if with_images and len(with_images) != len(candidates):
        bare = next(name for name in names if name not in with_images)
        raise InputError(
            f"candidate '{with_images[0]}' has images and '{bare}' has none; give all of them images or none"
        )
    for candidate in candidates:
        if candidate.worst_case_of is not None and candidate.worst_case_of not in names:
            raise InputError(
                f"candidate '{candidate.name}' is the worst case of '{candidate.worst_case_of}', "
                "which is not measured here"
            )
