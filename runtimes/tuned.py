"""What a measurement on this machine says about how to run a bundle, and why it is not heeded where it is not.

Does not know: how it was measured, how a runtime is opened.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from edgevit.bundle import Bundle
from edgevit.errors import InputError
from edgevit.machine import this_machine
from edgevit.targets import target_named
from edgevit.tuning_record import Choice, read_tuning, unfit

from .fallback import rungs

__all__ = ["TUNABLE", "Tuned", "installed_libraries", "is_tunable", "tuned"]

# The runtimes that may stand for each other on a CPU, with the library of each.
TUNABLE = {"ort": "onnxruntime", "ov": "openvino"}

# A library comes in several distributions, of which one is installed.
_DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    "openvino": ("openvino",),
}


@dataclass(frozen=True)
class Tuned:
    """What is to be made of the record beside a bundle.

    Attributes:
        choice: what to run it by; None to go on as if there were no record.
        said: one line about it, for `Session.health`; None where there is no record.
        ignored: there is a record that is not heeded, which is nobody's wish.
    """

    choice: Choice | None = None
    said: str | None = None
    ignored: bool = False

    def order(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The runtimes to try, best first: the one that was chosen before the others."""
        if self.choice is None:
            return names
        return self.choice.runtime, *(name for name in names if name != self.choice.runtime)

    def threads_on(self, runtime: str, asked: int | None) -> int | None:
        """How many threads to give a runtime: those it was chosen with, or what the caller asked for."""
        return self.choice.threads if self.choice is not None and self.choice.runtime == runtime else asked


def is_tunable(bundle: Bundle) -> bool:
    """Whether a bundle is for a CPU, where there is something to choose."""
    return all(name in TUNABLE for name in rungs(target_named(bundle.manifest.target)))


def installed_libraries() -> dict[str, str]:
    """Version of each library of `TUNABLE` that is installed here. Imports none of them."""
    return {library: version for library in TUNABLE.values() if (version := _version(library)) is not None}


def tuned(bundle: Bundle, threads: int | None = None) -> Tuned:
    """What to run a bundle by, from what was measured here.

    Args:
        bundle: any; those for a GPU have nothing to choose.
        threads: that the caller insists on; the choice was made for other ones then.
    """
    if not is_tunable(bundle):
        return Tuned()
    again = f"run: edgevit bench {shlex.quote(str(bundle.path))} --autotune"
    try:
        record = read_tuning(bundle)
    except InputError as error:
        return Tuned(said=f"autotuning is ignored: {error}; {again}", ignored=True)
    if record is None:
        return Tuned()
    reason = unfit(record, bundle, this_machine(), installed_libraries())
    if reason is None and record.winner.runtime not in TUNABLE:
        reason = f"it names {record.winner}, and that is no runtime for a CPU"
    if reason is None and (record.winner.threads or 1) > record.machine.cpus:
        reason = f"it names {record.winner}, more threads than the {record.machine.cpus} CPUs there are"
    if reason is not None:
        return Tuned(said=f"autotuning is ignored: {reason}; {again}", ignored=True)
    if threads is not None:
        return Tuned(said=f"autotuning chose {record.winner}, and is left out since a number of threads was asked for")
    if record.decision is None or not record.decision.faster:
        return Tuned(said=f"autotuning found nothing clearly faster here than {record.default}")
    said = f"autotuning measured {record.winner} at {record.decision.ratio} of {record.default} here"
    return Tuned(record.winner, said)


def _version(library: str) -> str | None:
    from importlib import metadata  # a start without a record does not pay for it

    for distribution in _DISTRIBUTIONS[library]:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None
