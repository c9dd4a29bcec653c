"""Building the engine of a bundle: the part of `edgevit.api` that joins bundles, targets, TensorRT and the GPU at hand.

Runs on Python 3.10 without torch and onnx, as on a Jetson.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from edgevit.bundle import GRAPH_NAME, Bundle
from edgevit.engine_fit import outdated, this_platform
from edgevit.engine_library import load_library
from edgevit.engine_record import (
    EngineRecord,
    HardwareCompatibility,
    Library,
    NoEngine,
    library_of,
    read_engine,
    write_engine,
)
from edgevit.errors import InputError
from edgevit.files import atomic_write, reading, sha256
from edgevit.manifest import FileRecord
from edgevit.targets import TARGETS, Target, target_named

if TYPE_CHECKING:
    from edgevit.export.cuda_driver import Device
    from edgevit.export.trt_progress import BuildProgress

__all__ = ["build_engine", "check_buildable", "check_device", "rebuild_engine"]

_LARGEST_BYTES = 2**63 - 1  # what the libraries take


def build_engine(
    bundle: str | Path | Bundle,
    *,
    target: str | None = None,
    workspace_bytes: int | None = None,
    timing_cache: str | Path | None = None,
    hardware_compatibility: HardwareCompatibility = "none",
    version_compatible: bool = False,
    capabilities: tuple[str, ...] = (),
    force: bool = False,
    report: Callable[[BuildProgress], bool] | None = None,
    note: Callable[[str], None] | None = None,
) -> EngineRecord:
    """Build the engine of a bundle for this machine's GPU, or ahead of time, and put it beside the bundle.

    Args:
        bundle: a folder that an export wrote; it does not change.
        target: a name of `edgevit list targets`; the bundle's own by default.
        workspace_bytes: the most scratch memory a kernel may use; the library's own choice by default.
        timing_cache: a file with kernel timings, read if it is there and written anew; TensorRT alone.
        hardware_compatibility: which other GPUs may run it: `none`, `ampere+` or `same-compute-capability`; TensorRT
            alone.
        version_compatible: whether newer TensorRT may run it; TensorRT alone.
        capabilities: compute capabilities to build for, `8.6`; TensorRT-RTX alone, its own choice by default.
        force: build again where there is an engine of this bundle.
        report: told ten times a second where the build is; returns whether to go on.
        note: told, in one line, what is worth knowing beside the result.

    Returns:
        The record of the engine, as it stands beside it.

    Raises:
        InputError: no bundle or a damaged one; no engines for that target, or not on this machine; there is an engine
            and `force` is off; the timing cache cannot be read, or its folder not written; the library cannot build
            it. What was there before is untouched.
        CheckFailed: the network does not compute in the bundle's precision; no engine is written.
        MissingExtra: the target's library is not installed.
    """
    from edgevit.export.cuda_driver import find_device
    from edgevit.export.trt import EngineSettings, builds_ahead
    from edgevit.export.trt import build_engine as build

    if workspace_bytes is not None and not 1 <= workspace_bytes <= _LARGEST_BYTES:
        raise InputError(
            f"got {workspace_bytes} bytes of scratch memory; wanted 1 MiB or more, or leave the choice out"
        )
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    row = target_named(target or opened.manifest.target)
    name = check_buildable(opened, row)
    device = find_device()
    library = _load(name, row, device)
    if not force:
        _check_absent(opened, name, str(library.__version__), None if capabilities else device)
    at_hand = None if builds_ahead(library) else device
    cache = None if timing_cache is None else Path(timing_cache)
    timings = None if cache is None else _read_cache(cache)
    onnx = opened.read(GRAPH_NAME)
    built = build(
        onnx,
        library,
        EngineSettings(
            precision=opened.manifest.precision_achieved,
            workspace_bytes=workspace_bytes,
            timing_cache=timings,
            hardware_compatibility=hardware_compatibility,
            version_compatible=version_compatible,
            capabilities=capabilities,
        ),
        report,
    )
    record = EngineRecord(
        bundle_digest=opened.digest,
        onnx_sha256=sha256(onnx),
        target=row.name,
        library=name,
        library_version=str(library.__version__),
        compute_capability=at_hand.compute_capability if at_hand else None,
        built_for=capabilities,
        device_name=at_hand.name if at_hand else None,
        driver=at_hand.driver if at_hand else None,
        platform=this_platform(),
        hardware_compatibility=hardware_compatibility,
        version_compatible=version_compatible,
        precision=built.precision,
        build_seconds=round(built.build_seconds, 3),
        engine=FileRecord(sha256=sha256(built.engine), size_bytes=len(built.engine)),
    )
    write_engine(opened, built.engine, record)
    notes = list(built.notes)
    if cache is not None and built.timing_cache is not None:
        try:
            atomic_write(cache, built.timing_cache)
        except InputError as error:  # the engine took minutes and stands; the timings only save some the next time
            notes.append(str(error))
    for line in notes:
        if note is not None:
            note(line)
    return record


def rebuild_engine(bundle: Bundle, target: str) -> EngineRecord:
    """Build the engine that was found missing or not to run here, for the device at hand, which is to run it.

    Raises:
        InputError: there is no device; or as `build_engine`.
        CheckFailed: as `build_engine`.
        MissingExtra: as `build_engine`.
    """
    from edgevit.export.cuda_driver import find_device

    if find_device() is None:  # an engine can be built ahead of time, but nothing would run it
        raise InputError("this machine shows no NVIDIA GPU; load the bundle on one that has it")
    # What runs it has found that it does not, which says more than a record that seems to fit.
    return build_engine(bundle, target=target, force=True)


def check_buildable(bundle: Bundle, target: Target) -> Library:
    """The library that builds a bundle's engine for a target.

    Raises:
        InputError: the target has no engines, or the bundle's graph is none for it.
    """
    name = library_of(target.runtime)
    if name is None:
        engines = ", ".join(row.name for row in TARGETS if library_of(row.runtime))
        raise InputError(
            f"target {target.name} runs the graph itself and has no engine to build; wanted --target {engines}"
        )
    manifest = bundle.manifest
    again = f"export it again with --target {target.name}"
    if manifest.routing is not None and manifest.routing.mode == "adaptive":
        raise InputError(
            f"{bundle.path}: is adaptive, and on TensorRT an If may cost all its branches; {again} and --routing mask, "
            "or topk for expert choice"
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


def _check_absent(bundle: Bundle, library: Library, library_version: str, device: Device | None) -> None:
    """Refuse to build what is there, sound and fit; what is not, or of another bundle, is built anew unasked."""
    try:
        record, read = read_engine(bundle, library)
        read()
    except NoEngine:
        return
    capability, card = (device.compute_capability, device.name) if device is not None else (None, None)
    if outdated(record, library_version, capability, card):
        return
    raise InputError(
        f"{bundle.path}: has an engine of {record.library} {record.library_version} that took "
        f"{record.build_seconds:.0f} s; use --force to build it again"
    )


def _load(name: Library, target: Target, device: Device | None) -> ModuleType:
    """The library's module.

    Raises:
        InputError: the device it would need is not here, or what is installed does not load.
        MissingExtra: it is not installed.
    """
    if name == "tensorrt":
        check_device(target, device)  # first: where there is no such device, installing the library would not help
    return load_library(name)


def _read_cache(path: Path) -> bytes:
    """What an earlier build left; refused before the build, and not after it, where nothing could be left there."""
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"{path}: no timing cache can be written there; wanted a file in a folder that can be written")
    if not path.exists():
        return b""
    with reading(path, "give the file of an earlier build, or one to be written"):
        return path.read_bytes()
