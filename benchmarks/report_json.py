"""The lossless report: a measurement as JSON, and back."""

from __future__ import annotations

import json

from edgevit.errors import InputError

from ._codec import from_plain, to_plain
from .measurement import Measurement
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
    return from_plain(Measurement, document.get("measurement"), f"'{source}': measurement")  # type: ignore[no-any-return]
