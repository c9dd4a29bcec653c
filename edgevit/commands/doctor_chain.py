"""The part of `edgevit doctor` that tries the runtimes: the one a bundle is for, and what stands in where it fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevit import console
from edgevit.errors import EdgevitError, InputError

if TYPE_CHECKING:
    from edgevit.bundle import Bundle
    from edgevit.targets import Target

__all__ = ["Rung", "show_chain", "try_runtimes"]


@dataclass(frozen=True)
class Rung:
    """One runtime that was tried.

    Attributes:
        runtime: its name.
        runs: whether the bundle ran on it.
        detail: what it is, or why not.
    """

    runtime: str
    runs: bool
    detail: str


def try_runtimes(bundle: Bundle, target: Target) -> Iterator[Rung]:
    """Run the bundle once on the runtime of the target, and as `edgevit.load` would on the next best until one works.

    Args:
        bundle: whose files were checked.
        target: that it is meant for here.
    """
    from edgevit.runtimes.fallback import rungs

    names = rungs(target)
    for place, name in enumerate(names):
        try:
            detail = _run(bundle, name)
        except EdgevitError as error:
            yield Rung(name, False, str(error))
            continue
        stands_in = f"runs it in place of {names[0]}" if place else "runs it"
        yield Rung(name, True, f"{stands_in}: {detail}")
        return


def show_chain(chain: Sequence[Rung]) -> None:
    """Print what would run a bundle, the best first; nothing where that is what it is for."""
    if not chain or chain[0].runs:
        return
    console.show_line("")
    rows = [(rung.runtime, console.good("runs it") if rung.runs else console.bad("no"), rung.detail) for rung in chain]
    console.show_table(("runtime", "state", "what was seen"), rows, title="what runs it here, best first")
    if not any(rung.runs for rung in chain):
        console.show_line(console.bad("nothing runs it here"))


def _run(bundle: Bundle, name: str) -> str:
    """What ran it.

    Raises:
        EdgevitError: it does not.
    """
    import numpy as np

    from edgevit.runtimes.choose import RUNTIMES, open_runner
    from edgevit.runtimes.fallback import BUILDS_AT_START, computed_in

    if name not in [runtime.name for runtime in RUNTIMES]:
        raise InputError("this edgevit has no such runtime; take a bundle for a target of another")
    opened = open_runner(bundle, name)
    if name == BUILDS_AT_START:
        console.note(f"{name}: builds an engine now, which takes minutes")
    with opened as runner:
        runner(np.zeros(runner.input.shape, np.float32))
        facts = dict(runner.facts)
    parts = [" ".join(str(facts[key]) for key in ("version", "provider", "device") if key in facts)]
    if "cuda_graph" in facts:
        parts.append(f"CUDA graph {facts['cuda_graph']}")
    otherwise = computed_in(bundle.manifest, facts)
    if otherwise is not None:
        parts.append(f"its {bundle.manifest.precision_achieved} graph is computed in {otherwise}")
    return "; ".join(parts)
