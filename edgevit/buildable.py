"""Whether engines of a bundle can be built: for a target, and on the device at hand.

Runs on Python 3.10 without torch and onnx, as on a Jetson.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgevit.bundle import Bundle
from edgevit.engine_record import Library, library_of
from edgevit.errors import InputError
from edgevit.targets import TARGETS, Target

if TYPE_CHECKING:
    from edgevit.export.cuda_driver import Device

__all__ = ["check_buildable", "check_device"]


def check_buildable(bundle: Bundle, target: Target) -> Library:
    """The library that builds a bundle's engines for a target.

    Raises:
        InputError: the target has no engines, or the bundle's graphs are none for it.
    """
    name = library_of(target.runtime)
    if name is None:
        engines = ", ".join(row.name for row in TARGETS if library_of(row.runtime))
        raise InputError(
            f"target {target.name} runs the graph itself and has no engine to build; wanted --target {engines}"
        )
    manifest = bundle.manifest
    again = f"export it again with --target {target.name}"
    if bundle.stages is None and manifest.routing is not None and manifest.routing.mode == "adaptive":
        raise InputError(
            f"{bundle.path}: is adaptive in one graph, and on TensorRT an If may cost all its branches; {again} and "
            "--routing adaptive, which makes a graph for each budget"
        )
    if manifest.opset > target.newest_opset:
        raise InputError(
            f"{bundle.path}: is of opset {manifest.opset}, target {target.name} reads {target.newest_opset}; {again}"
        )
    if manifest.precision_achieved not in target.precisions:
        raise InputError(
            f"{bundle.path}: is {manifest.precision_achieved}, target {target.name} takes "
            f"{', '.join(target.precisions)}; {again}"
        )
    return name


def check_device(target: Target, device: Device | None) -> None:
    """Whether an engine for a target can be built on a device: TensorRT times kernels on what it builds for.

    Raises:
        InputError: there is no device, or it is another.
    """
    there = f"copy the bundle to such a device ({target.description}) and run the same command there"
    if device is None:
        raise InputError(
            f"target {target.name} is built on the device itself ({target.architecture}) and this machine shows no "
            f"NVIDIA GPU; {there}"
        )
    found = re.search(r"sm_(\d+)(\d)(\b or later)?", target.architecture)
    assert found is not None, "every target of TensorRT names a compute capability"
    wanted = int(found[1]), int(found[2])
    major, minor = map(int, device.compute_capability.split("."))
    if (major, minor) != wanted and not (found[3] and (major, minor) > wanted):
        raise InputError(
            f"target {target.name} is built on {target.architecture} and this machine has sm_{major}{minor} "
            f"({device.name}); {there}, or choose another --target"
        )
