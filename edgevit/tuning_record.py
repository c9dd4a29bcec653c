"""What `edgevit bench --autotune` found for a bundle on a machine, beside the bundle.

The record chooses between runtimes and thread counts and nothing else, so that a forged one could make things slower
and no worse. Its own hash finds damage. It holds for one bundle, one machine and the versions that were measured:
whoever reads it asks `unfit` first.

Does not know: how anything is timed, any runtime.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgevit.bundle import Bundle, device_dir
from edgevit.errors import InputError
from edgevit.files import atomic_write, cannot_write, reading, sha256
from edgevit.machine import Machine
from edgevit.strict_json import build, encode, parse

__all__ = [
    "TUNING_SCHEMA_VERSION",
    "Choice",
    "Decision",
    "Ratio",
    "Trial",
    "TuningRecord",
    "read_tuning",
    "tuning_path",
    "unfit",
    "write_tuning",
]

TUNING_SCHEMA_VERSION = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A way to run a bundle.

    Attributes:
        runtime: a name of `edgevit list runtimes`.
        threads: of one inference; None for the runtime's own choice.
    """

    runtime: str
    threads: int | None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads: got {self.threads}, wanted 1 or more")

    def __str__(self) -> str:
        if self.threads is None:
            return self.runtime
        return f"{self.runtime} with {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Time of a choice over that of the default, with its interval."""

    ratio: float
    low: float
    high: float
    confidence: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.ratio <= self.high:
            raise InputError(f"got {self.ratio:g} in {self.low:g} to {self.high:g}, wanted a ratio in its interval")

    def __str__(self) -> str:
        return f"{self.ratio:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One choice that was tried, of all that the machine has.

    Attributes:
        choice: what was tried.
        median_ms: of a query, in milliseconds; None where it was not timed.
        ratio: to the default; None for the default and where it was not timed.
        refused: why it cannot be taken however fast it is: it does not start, or answers otherwise than the reference.
    """

    choice: Choice
    median_ms: float | None
    ratio: Ratio | None
    refused: str | None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The default against the best of the trials, in a measurement of its own.

    Of its own, since the best of many is partly the luckiest of them.

    Attributes:
        challenger: the best of the trials.
        ratio: its time over the default's, at the confidence that a verdict needs.
        floor: ratio, at least 1, that two processes of the default showed between them.
        rounds: pairs of blocks it rests on.
    """

    challenger: Choice
    ratio: Ratio
    floor: float
    rounds: int

    def __post_init__(self) -> None:
        if self.floor < 1 or self.rounds < 2:
            raise InputError(f"got floor {self.floor:g} of {self.rounds} rounds, wanted 1 or more of 2 or more")

    @property
    def faster(self) -> bool:
        """Whether the whole interval is below what the machine's noise can explain."""
        return self.ratio.high < 1 / self.floor


@dataclass(frozen=True, kw_only=True)
class TuningRecord:
    """What was found.

    Attributes:
        schema_version: of this record.
        bundle_digest: `Bundle.digest` of the bundle that was run.
        machine: that it was run on.
        libraries: version of each library that takes part, by the name it is imported by.
        images: how many different ones were run.
        default: what `edgevit.load` takes by itself.
        trials: every choice, the default first.
        decision: the default against the best; None where no choice was faster than the default in its trial.
    """

    schema_version: int = TUNING_SCHEMA_VERSION
    bundle_digest: str
    machine: Machine
    libraries: dict[str, str]
    images: int
    default: Choice
    trials: tuple[Trial, ...]
    decision: Decision | None

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.bundle_digest):
            raise InputError("bundle_digest: wanted 64 lower-case hexadecimal digits")
        if not self.trials or self.trials[0].choice != self.default:
            raise InputError("trials: wanted the default first")
        if self.decision is not None:
            sound = [trial.choice for trial in self.trials[1:] if trial.refused is None]
            if self.decision.challenger not in sound:
                raise InputError("decision.challenger: wanted one of the trials that was not refused")

    @property
    def winner(self) -> Choice:
        """The challenger if it is clearly faster, else the default."""
        if self.decision is not None and self.decision.faster:
            return self.decision.challenger
        return self.default


@dataclass(frozen=True, kw_only=True)
class _Sealed:
    """As it is written: the hash is of the record alone, encoded."""

    record: TuningRecord
    sha256: str

    def __post_init__(self) -> None:
        if self.sha256 != sha256(encode(self.record)):
            raise InputError("its hash differs, so it was damaged or edited")


def tuning_path(bundle: Bundle) -> Path:
    """Where the record of a bundle stands."""
    return device_dir(bundle) / "tuning.json"


def write_tuning(bundle: Bundle, record: TuningRecord) -> Path:
    """Put a record beside its bundle, in place of the one before.

    Raises:
        InputError: the folder cannot be written; the record before stays.
    """
    assert record.bundle_digest == bundle.digest, "the record of another bundle"
    path = tuning_path(bundle)
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    atomic_write(path, encode(_Sealed(record=record, sha256=sha256(encode(record)))))
    return path


def read_tuning(bundle: Bundle) -> TuningRecord | None:
    """The record beside a bundle, None if there is none. It may be of another bundle or machine: see `unfit`.

    Raises:
        InputError: it is damaged, of another schema, or cannot be read.
    """
    path = tuning_path(bundle)
    if not os.path.lexists(path):
        return None
    with reading(path, "measure again"), open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise InputError(f"{path}: is more than {_MAX_BYTES} bytes, no record of autotuning")
    values = parse(data, str(path))
    inner = values.get("record") if isinstance(values, dict) else None
    version = inner.get("schema_version") if isinstance(inner, dict) else None
    if type(version) is int and version != TUNING_SCHEMA_VERSION:
        raise InputError(f"{path}: schema version {version}, this edgevit reads {TUNING_SCHEMA_VERSION}")
    return build(_Sealed, values, str(path)).record


def unfit(record: TuningRecord, bundle: Bundle, machine: Machine, libraries: Mapping[str, str]) -> str | None:
    """Why a record says nothing about a bundle here; None where it does.

    Args:
        record: as it was read.
        bundle: that is to be run.
        machine: that it is to be run on.
        libraries: versions installed here, by the name they are imported by.
    """
    if record.bundle_digest != bundle.digest:
        return "it was measured with another bundle"
    if record.machine != machine:
        return f"it was measured on {record.machine}; {record.machine.unlike(machine)}"
    for name, version in sorted(record.libraries.items()):
        if libraries.get(name) != version:
            return f"it was measured with {name} {version}; here is {libraries.get(name, 'none')}"
    return None
