"""What an adaptive bundle costs on this device, rung by rung: the measured curve that a promised latency rests on.

It is kept beside the bundle, under a hash of its own, and names what it holds for: bundle, runtime, version, threads
and machine. Of anything else it says nothing.

Does not know: how times are measured, how a graph is loaded.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from edgevit.bundle import Bundle, device_dir
from edgevit.errors import InputError
from edgevit.files import atomic_write, cannot_write, reading, sha256
from edgevit.machine import Machine, this_machine
from edgevit.strict_json import build, encode, parse

__all__ = [
    "CURVE_SCHEMA_VERSION",
    "MARGIN",
    "Curve",
    "Durations",
    "Point",
    "curve_command",
    "curve_path",
    "read_curve",
    "write_curve",
]

CURVE_SCHEMA_VERSION = 2
MARGIN = 1.1  # a bound is so many times the longest run that was seen
_CONFIDENCE = 0.95
_MAX_BYTES = 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Durations:
    """How long the same work took, in nanoseconds.

    Attributes:
        runs: how many there were.
        p50_ns: median.
        p99_ns: 99th percentile by nearest rank; the longest where there are fewer than a hundred.
        max_ns: the longest.
    """

    runs: int
    p50_ns: int
    p99_ns: int
    max_ns: int

    def __post_init__(self) -> None:
        rising = 0 <= self.p50_ns <= self.p99_ns <= self.max_ns
        if self.runs < 1 or not rising:
            raise InputError("wanted 1 run or more, and times that rise from p50_ns to max_ns")

    @classmethod
    def of(cls, times_ns: list[int]) -> Durations:
        """Of at least one run, in any order."""
        ordered = sorted(times_ns)

        def rank(share: float) -> int:
            return ordered[math.ceil(share * len(ordered)) - 1]

        return cls(runs=len(ordered), p50_ns=rank(0.5), p99_ns=rank(0.99), max_ns=ordered[-1])

    @property
    def covered(self) -> float:
        """The share of later runs that take no longer than the longest did, with a confidence of 95 %.

        From the number of runs alone, for runs that are alike and independent: 300 runs cover 99 %, 3,000 cover 99.9 %.
        """
        return float((1 - _CONFIDENCE) ** (1 / self.runs))


@dataclass(frozen=True, kw_only=True)
class Point:
    """The graph with every step as full as its cap allows.

    Attributes:
        caps: the most tokens of each step after the first.
        durations: of the graph alone.
    """

    caps: tuple[int, ...]
    durations: Durations


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What a bundle costs under caps, on one device.

    Attributes:
        schema_version: of this record.
        bundle_digest: `Bundle.digest` of the bundle.
        runtime: that ran it, `ort`.
        library_version: of that runtime's library.
        threads: `auto`, or their number.
        machine: that it was measured on.
        points: by their caps, the one that caps nothing among them.
        around: what stands around the graph in `Session.predict`: reading a picture, preprocessing, the answer.
        around_of: what pictures that was measured on.
    """

    schema_version: int = CURVE_SCHEMA_VERSION
    bundle_digest: str
    runtime: str
    library_version: str
    threads: str
    machine: Machine
    points: tuple[Point, ...]
    around: Durations
    around_of: str

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.bundle_digest):
            raise InputError("bundle_digest: wanted 64 lower-case hexadecimal digits")
        if not self.points or len({len(point.caps) for point in self.points}) != 1:
            raise InputError("points: wanted one or more, with a cap for each step after the first")
        if min((cap for point in self.points for cap in point.caps), default=0) < 0:
            raise InputError("points: got a cap below 0")
        if len({point.caps for point in self.points}) < len(self.points):
            raise InputError("points: wanted each caps once")

    def bound_ns(self, point: Point) -> int:
        """What no answer under these caps is expected to exceed: the longest seen, with a margin.

        The longest of all points that are nowhere fuller counts too, since they are part of what may happen. It is a
        bound from experience, not a hard one: another load, a throttled clock or a slower disk can break it.
        """
        under = [
            one.durations.max_ns
            for one in self.points
            if all(cap <= most for cap, most in zip(one.caps, point.caps, strict=True))
        ]
        return round(MARGIN * (max(under) + self.around.max_ns))


def curve_command(bundle: Bundle, threads: int | None) -> str:
    """The command line that measures the curve that is wanted."""
    return f"edgevit bench {shlex.quote(str(bundle.path))} --curve" + (f" --threads {threads}" if threads else "")


def curve_path(bundle: Bundle, runtime: str, threads: int | None) -> Path:
    """Where the curve of a bundle on a runtime with so many threads stands."""
    return device_dir(bundle) / f"curve-{runtime}-{threads or 'auto'}.json"


def write_curve(bundle: Bundle, curve: Curve, threads: int | None) -> Path:
    """Put a curve in its place beside the bundle, in one step.

    Raises:
        InputError: the folder cannot be written; an older curve stays as it was.
    """
    assert curve.bundle_digest == bundle.digest, "the curve of another bundle"
    path = curve_path(bundle, curve.runtime, threads)
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    atomic_write(path, encode({"curve": curve, "sha256": sha256(encode(curve))}))
    return path


@dataclass(frozen=True, kw_only=True)
class _File:
    curve: Curve
    sha256: str


def read_curve(bundle: Bundle, runtime: str, threads: int | None) -> Curve:
    """The curve of a bundle on this machine.

    Args:
        bundle: that is to run.
        runtime: that is to run it.
        threads: that it is to have; None for the runtime's own choice.

    Raises:
        InputError: there is none; it is damaged or of another schema; or it was measured of another bundle or on
            another machine. The line says what measures it.
    """
    path = curve_path(bundle, runtime, threads)
    again = f"run: {curve_command(bundle, threads)}"
    if not path.exists():
        raise InputError(f"{bundle.path}: nobody measured yet what its budgets cost here; {again}")
    with reading(path, again), open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise InputError(f"{path}: is more than {_MAX_BYTES} bytes, no curve; {again}")
    curve = _checked(data, path, again)
    if curve.bundle_digest != bundle.digest:
        raise InputError(f"{path}: was measured of another bundle than {bundle.path}; {again}")
    if (curve.runtime, curve.threads) != (runtime, str(threads or "auto")):
        raise InputError(f"{path}: is of runtime {curve.runtime} with threads {curve.threads}; {again}")
    here = this_machine()
    if curve.machine != here:
        raise InputError(f"{path}: was measured on {curve.machine}; {curve.machine.unlike(here)}; {again}")
    routing = bundle.manifest.routing
    steps = 0 if routing is None else routing.steps - 1
    if len(curve.points[0].caps) != steps:
        raise InputError(f"{path}: has caps for {len(curve.points[0].caps)} steps, the bundle has {steps}; {again}")
    return curve


def _checked(data: bytes, path: Path, again: str) -> Curve:
    try:
        values = parse(data, str(path))
        inner = values.get("curve") if isinstance(values, dict) else None
        version = inner.get("schema_version") if isinstance(inner, dict) else None
        if type(version) is int and version != CURVE_SCHEMA_VERSION:
            raise InputError(f"{path}: schema version {version}, this edgevit reads {CURVE_SCHEMA_VERSION}")
        file = build(_File, values, str(path))
        if sha256(encode(file.curve)) != file.sha256:
            raise InputError(f"{path}: its hash differs, so it was changed or damaged")
    except InputError as error:
        raise InputError(f"{error}; {again}") from error
    return file.curve
