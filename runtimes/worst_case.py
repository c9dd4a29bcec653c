"""A bundle at its slowest: every step as full as it may be, whatever the picture.

For measuring alone: where the steps are branches of one graph they are forced to take every token, and its answers are
not the model's.
"""

from __future__ import annotations

from pathlib import Path

from edgevit.bundle import Bundle
from edgevit.errors import InputError
from edgevit.runner import Runner
from edgevit.targets import target_named

from .choose import open_runner
from .deadline import RUNTIME, adaptive_routing, open_forced

__all__ = ["open_worst_case"]


def open_worst_case(bundle: str | Path | Bundle, runtime: str = "auto", *, threads: int | None = None) -> Runner:
    """A runner, not entered, that costs what no picture exceeds.

    Args:
        bundle: an adaptive one, or its folder.
        runtime: as for `choose.open_runner`.
        threads: as there.

    Raises:
        InputError: a bundle that always costs the same, or one of one graph on a runtime that cannot force its steps;
            in stages what `open_runner` refuses.
        MissingExtra: the runtime's library is not installed.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    if opened.stages is not None and opened.manifest.routing is not None:
        return open_runner(opened, runtime, threads=threads, least=opened.manifest.routing.tokens)
    fullest = [rungs[-1] for rungs in adaptive_routing(opened).budgets]
    name = target_named(opened.manifest.target).runtime if runtime == "auto" else runtime
    if name != RUNTIME:
        raise InputError(
            f"{opened.path}: its worst case can be forced on runtime {RUNTIME} and not on {name}; name that one"
        )
    return open_forced(opened, fullest, threads)
