"""Building the engines of a bundle: the part of `edgevit.api` that joins bundles, targets, TensorRT and the GPU here.

Runs on Python 3.10 without torch and onnx, as on a Jetson.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from edgevit.buildable import check_buildable, check_device
from edgevit.bundle import Bundle
from edgevit.engine_fit import outdated, this_platform
from edgevit.engine_library import load_library
from edgevit.engine_record import EngineRecord, HardwareCompatibility, Library, NoEngine
from edgevit.engine_store import read_engine, write_engine
from edgevit.errors import InputError
from edgevit.files import atomic_write, reading, sha256
from edgevit.manifest import FileRecord
from edgevit.targets import Target, target_named

if TYPE_CHECKING:
    from edgevit.export.cuda_driver import Device
    from edgevit.export.trt_progress import BuildProgress

__all__ = ["build_engines", "rebuild_engines"]

_LARGEST_BYTES = 2**63 - 1  # what the libraries take


def build_engines(
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
) -> dict[str, EngineRecord]:
    """Build an engine for each graph of a bundle, for this machine's GPU or ahead of time, and put them beside it.

    Nothing is written before the last one is built. Engines share no weights: those of a staged bundle with k budgets
    hold the recursive weights k + 1 times, on the disk and, loaded, on the device.

    Args:
        bundle: a folder that an export wrote; it does not change.
        target: a name of `edgevit list targets`; the bundle's own by default.
        workspace_bytes: the most scratch memory a kernel may use; the library's own choice by default.
        timing_cache: a file with kernel timings, read if it is there and written anew; TensorRT alone.
        hardware_compatibility: which other GPUs may run it: `none`, `ampere+` or `same-compute-capability`; TensorRT
            alone.
        version_compatible: whether newer TensorRT may run it; TensorRT alone.
        capabilities: compute capabilities to build for, `8.6`; TensorRT-RTX alone, its own choice by default.
        force: build again where there are engines of this bundle.
        report: told ten times a second where the build is; returns whether to go on.
        note: told, in one line, what is worth knowing beside the result.

    Returns:
        For each graph, in the order in which they run, the record that stands beside its engine.

    Raises:
        InputError: no bundle or a damaged one; no engines for that target, or not on this machine; all engines are
            there and `force` is off; the timing cache cannot be read, or its folder not written; the library cannot
            build one. What was there before is untouched.
        CheckFailed: a network does not compute in the bundle's precision; no engine is written.
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
    settings = EngineSettings(
        precision=opened.manifest.precision_achieved,
        workspace_bytes=workspace_bytes,
        timing_cache=None if cache is None else _read_cache(cache),
        hardware_compatibility=hardware_compatibility,
        version_compatible=version_compatible,
        capabilities=capabilities,
    )
    records: dict[str, EngineRecord] = {}
    engines: dict[str, bytes] = {}
    notes: dict[str, None] = {}  # each once, in order
    for graph in opened.graphs:
        onnx = opened.read(graph)
        built = build(onnx, library, settings, _among(opened.graphs, graph, report))
        settings = replace(settings, timing_cache=built.timing_cache)  # the next one has much the same kernels
        records[graph] = EngineRecord(
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
        engines[graph] = built.engine
        notes |= dict.fromkeys(built.notes)
    for graph, record in records.items():
        write_engine(opened, engines[graph], record, graph)
    if cache is not None and settings.timing_cache is not None:
        try:
            atomic_write(cache, settings.timing_cache)
        except InputError as error:  # the engines took minutes and stand; the timings only save some the next time
            notes[str(error)] = None
    for line in notes:
        if note is not None:
            note(line)
    return records


def rebuild_engines(bundle: Bundle, target: str) -> dict[str, EngineRecord]:
    """Build the engines that were found missing or not to run here, for the device at hand, which is to run them.

    Raises:
        InputError: there is no device; or as `build_engines`.
        CheckFailed: as `build_engines`.
        MissingExtra: as `build_engines`.
    """
    from edgevit.export.cuda_driver import find_device

    if find_device() is None:  # an engine can be built ahead of time, but nothing would run it
        raise InputError("this machine shows no NVIDIA GPU; load the bundle on one that has it")
    # What runs it has found that it does not, which says more than a record that seems to fit.
    return build_engines(bundle, target=target, force=True)


def _among(
    graphs: Sequence[str], graph: str, report: Callable[[BuildProgress], bool] | None
) -> Callable[[BuildProgress], bool] | None:
    """The report of the build of one of several graphs: which of them it is, and how far that is of them all."""
    if report is None or len(graphs) == 1:
        return report
    before, of = graphs.index(graph), len(graphs)

    def tell(progress: BuildProgress) -> bool:
        # What the others will take nobody knows, except that there are none after the last.
        left_s = progress.left_s if before + 1 == of else None
        doing = f"{graph}, {before + 1} of {of}: {progress.doing}"
        return report(replace(progress, done=(before + progress.done) / of, doing=doing, left_s=left_s))

    return tell


def _check_absent(bundle: Bundle, library: Library, library_version: str, device: Device | None) -> None:
    """Refuse to build what is there, sound and fit; what is not, or of another bundle, is built anew unasked."""
    capability, card = (device.compute_capability, device.name) if device is not None else (None, None)
    found = []
    for graph in bundle.graphs:
        try:
            record, read = read_engine(bundle, library, graph)
            read()
        except NoEngine:
            return
        if outdated(record, library_version, capability, card):
            return
        found.append(record)
    what = "an engine" if len(found) == 1 else f"{len(found)} engines"
    raise InputError(
        f"{bundle.path}: has {what} of {found[0].library} {found[0].library_version} that took "
        f"{sum(record.build_seconds for record in found):.0f} s; use --force to build again"
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
