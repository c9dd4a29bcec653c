"""The lossless report: a measurement as JSON, and back."""

from __future__ import annotations

import json

from edgevit.errors import InputError

from ._codec import from_plain, to_plain
from .measurement import Measurement, Samples
from .summary import summarise

__all__ = ["FORMAT", "SCHEMA_VERSION", "measurement_from_json", "measurement_to_json"]

FORMAT = "edgevit-measurement"
SCHEMA_VERSION = 1
_UNITS = {
    "*_ns": "nanoseconds; times of events are on the machine's monotonic clock",
    "*_s": "seconds",
    "*_ms": "milliseconds",
    "*_bytes": "bytes",
    "percentile": "per cent",
    "ratio": "time of the candidate over time of the reference",
    "confidence": "probability",
}


def measurement_to_json(measurement: Measurement) -> bytes:
    """Every sample and every fact, and beside them the summary computed from them."""
    document = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "units": _UNITS,
        "measurement": to_plain(measurement),
        "summary": to_plain(summarise(measurement)),
    }
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def measurement_from_json(content: bytes, source: str) -> Measurement:
    """The measurement a report holds; its summary is computed afresh when asked for.

    Args:
        content: of the file.
        source: name of the file, for errors.

    Raises:
        InputError: not a report, of another schema version, or damaged; the line says where.
    """
    try:
        document = json.loads(content)
    except ValueError as error:
        raise InputError(f"'{source}' is not JSON ({error}); wanted a file written by edgevit bench --output") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f"'{source}' is not a measurement; wanted a file written by edgevit bench --output")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"'{source}' has schema version {document.get('schema_version')} and this edgevit reads {SCHEMA_VERSION}; "
            "measure again, or use the edgevit that wrote it"
        )
    measurement: Measurement = from_plain(Measurement, document.get("measurement"), f"'{source}': measurement")
    try:
        _check(measurement)
    except InputError as error:
        raise InputError(f"'{source}' is damaged: {error}") from None
    return measurement


def _check(measurement: Measurement) -> None:
    """What the types of its parts do not say.

    Raises:
        InputError: parts do not fit each other.
    """
    measurement.settings.validate()
    for name in ("cpus", "clock_resolution_ns"):
        if name not in measurement.machine:
            raise InputError(f"its machine has no {name}; measure again")
    names = [result.candidate.name for result in measurement.results]
    if len(set(names)) < len(names):
        raise InputError(f"two of its candidates have one name ({', '.join(names)}); measure again")
    everything: list[Samples] = []
    for result in measurement.results:
        everything += [result.lead_in, result.measured]
        everything += [] if result.warm_up is None else [result.warm_up.samples]
    if measurement.pilot is not None:
        everything += [measurement.pilot.first, measurement.pilot.second]
    for samples in everything:
        columns = [samples.block, samples.batches, samples.intended_ns, samples.start_ns, samples.end_ns]
        columns += [] if samples.device_ns is None else [samples.device_ns]
        if len({len(column) for column in columns}) > 1:
            raise InputError("its samples have columns of different lengths; measure again")
        if (samples.end_ns < samples.start_ns).any() or (samples.start_ns < samples.intended_ns).any():
            raise InputError("it has a query that ends before it starts; measure again")
