"""Whether an engine was built for the library and the card that are here, from its record: pure comparing.

TensorRT says so itself only by failing, and on Jetsons has been seen to run an engine of another card and answer
wrongly (NVIDIA/TensorRT#1206), so that it is asked after the record and not in its place. TensorRT-RTX tells the
validity of an engine before loading it, in terms of its own, and is left to.
"""

from __future__ import annotations

from edgevit.engine_record import EngineRecord

__all__ = ["misfit"]

# Majors that load a version-compatible engine of an older one (TensorRT's developer guide, "Version Compatibility").
_FORWARD = {("8", "10"), ("10", "11")}


def misfit(record: EngineRecord, library_version: str, compute_capability: str) -> str | None:
    """Why an engine must not be loaded here; None if nothing speaks against it.

    Args:
        record: of the engine.
        library_version: of the library that is to load it.
        compute_capability: of the device that is to run it, `8.7`.
    """
    if record.library == "tensorrt_rtx":
        return None
    if record.library_version != library_version and not _reads(record, library_version):
        return f"was built by tensorrt {record.library_version} and this is {library_version}"
    built_on = record.compute_capability
    if built_on is None or built_on == compute_capability:
        return None
    if record.hardware_compatibility == "ampere+" and _number(compute_capability) >= (8, 0) <= _number(built_on):
        return None
    return f"was built for compute capability {built_on} and this device has {compute_capability}"


def _reads(record: EngineRecord, library_version: str) -> bool:
    if not record.version_compatible:
        return False
    built, here = record.library_version, library_version
    majors = built.partition(".")[0], here.partition(".")[0]
    return majors in _FORWARD or (majors[0] == majors[1] and _number(here) >= _number(built))


def _number(version: str) -> tuple[int, ...]:
    """8.7 as (8, 7); what follows a part that is no number is left out."""
    parts = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        parts.append(int(part))
    return tuple(parts)
