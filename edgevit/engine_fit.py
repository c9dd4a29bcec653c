"""Whether an engine was built for the library and the card that are here, from its record: pure comparing.

TensorRT says so itself only by failing, and on Jetsons has been seen to run an engine of another card and answer
wrongly (NVIDIA/TensorRT#1206), so that it is asked after the record and not in its place. TensorRT-RTX tells the
validity of an engine before loading it, in terms of its own, and is left to; only whether to build anew is judged here.
"""

from __future__ import annotations

import platform
import sys

from edgevit.engine_record import EngineRecord

__all__ = ["misfit", "outdated", "this_platform"]

# Majors that load a version-compatible engine of an older one (TensorRT's developer guide, "Version Compatibility").
_FORWARD = {("8", "10"), ("10", "11")}


def this_platform() -> str:
    """Of this machine, as records have it: `linux-x86_64`."""
    return f"{sys.platform}-{platform.machine()}"


def misfit(record: EngineRecord, library_version: str, compute_capability: str, device_name: str) -> str | None:
    """Why an engine must not be loaded here; None if nothing speaks against it.

    Args:
        record: of the engine.
        library_version: of the library that is to load it.
        compute_capability: of the device that is to run it, `8.7`.
        device_name: of that device, `Orin`.
    """
    if record.library == "tensorrt_rtx":
        return None
    if record.library_version != library_version and not _reads(record, library_version):
        return f"was built by tensorrt {record.library_version} and this is {library_version}"
    if record.platform != this_platform():
        return f"was built on {record.platform} and this is {this_platform()}"
    built_on = record.compute_capability
    if record.hardware_compatibility == "ampere+" and built_on is not None:
        if _number(compute_capability) >= (8, 0) <= _number(built_on):
            return None
    if built_on is not None and built_on != compute_capability:
        return f"was built for compute capability {built_on} and this device has {compute_capability}"
    if record.hardware_compatibility == "none" and record.device_name not in (None, device_name):
        # Its kernels were chosen for the other card's memory and number of processors.
        return f"was built on {record.device_name} for that card alone and this is {device_name}"
    return None


def outdated(
    record: EngineRecord, library_version: str, compute_capability: str | None, device_name: str | None
) -> bool:
    """Whether an engine that is sound is to be built anew on this machine, where nothing else was asked for.

    Args:
        record: of the engine.
        library_version: of the library that would build it.
        compute_capability: of the device at hand; None without one.
        device_name: of that device; None without one.
    """
    if record.library == "tensorrt_rtx":
        elsewhere = compute_capability is not None and record.built_for and compute_capability not in record.built_for
        return record.library_version != library_version or bool(elsewhere)
    if compute_capability is None or device_name is None:
        return False
    return misfit(record, library_version, compute_capability, device_name) is not None


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
