"""`edgevit build`: the engines of a bundle, on the device that will run them or ahead of time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgevit import console
from edgevit.commands.options import BundlePath, Json, setting

if TYPE_CHECKING:
    from edgevit.engine_record import EnginePrecision, EngineRecord
    from edgevit.export.trt_progress import BuildProgress

__all__ = ["build"]

_Target = Annotated[str | None, setting("--target", "NAME", "A name of `edgevit list targets`.", "the bundle's own")]
_Workspace = Annotated[
    int | None, setting("--workspace-mib", "N", "Most scratch memory of a kernel, MiB.", "the library's own choice")
]
_TimingCache = Annotated[
    Path | None,
    setting("--timing-cache", "FILE", "Kernel timings, read and written: building again is faster.", "none"),
]
_Hardware = Annotated[
    Literal["none", "ampere+", "same-compute-capability"],
    typer.Option("--hardware-compatibility", help="Which other GPUs may run it, at some cost of speed."),
]
_Version = Annotated[bool, typer.Option("--version-compatible", help="Let newer TensorRT run it.")]
_Capability = Annotated[
    list[str] | None,
    setting("--compute-capability", "X.Y", "Build for this GPU ahead of time; may be repeated.", "the library's own"),
]
_Force = Annotated[bool, typer.Option("--force", help="Build again where there is an engine.")]


def build(
    bundle: BundlePath,
    target: _Target = None,
    workspace_mib: _Workspace = None,
    timing_cache: _TimingCache = None,
    hardware_compatibility: _Hardware = "none",
    version_compatible: _Version = False,
    compute_capability: _Capability = None,
    force: _Force = False,
    json: Json = False,
) -> None:
    """Build the engine of a bundle, beside it.

    A bundle in stages gets one for each of its graphs. TensorRT builds on the device itself, in minutes; TensorRT-RTX
    (--target rtx) on any x86-64 machine, without a GPU. The bundle does not change, and Ctrl-C leaves engines that were
    there as they were.
    """
    from edgevit import building

    notes: list[str] = []
    with console.progress() as tell:
        tell(0.0, "read the bundle")

        def report(progress: BuildProgress) -> bool:
            tell(progress.done, f"build: {progress.doing}", progress.left_s)
            return True

        records = building.build_engines(
            bundle,
            target=target,
            workspace_bytes=None if workspace_mib is None else workspace_mib * 2**20,
            timing_cache=timing_cache,
            hardware_compatibility=hardware_compatibility,
            version_compatible=version_compatible,
            capabilities=tuple(compute_capability or ()),
            force=force,
            report=report,
            note=notes.append,
        )
    for line in notes:
        console.note(line)
    if json:  # the record as it stands beside the engine, where there is one
        console.show_json(records if len(records) > 1 else next(iter(records.values())))
        return
    first, *others = records.values()
    if others:
        _show_stages(str(bundle), records)
    else:
        _show(str(bundle), first)


def _show(title: str, record: EngineRecord) -> None:
    precision = record.precision
    facts: dict[str, Any] = {
        "engine": f"{console.size(record.engine.size_bytes)}, built in {record.build_seconds:.1f} s",
        **_common(record),
        "weights multiplied in": _shares(precision.products),
        "layers compute in": _shares(precision.layers),
    }
    if precision.kernels:
        facts["kernels work in"] = _shares(precision.kernels)
    if precision.attention:
        facts["attention"] = _attention(precision)
    console.show_facts(facts, title=title)


def _show_stages(title: str, records: Mapping[str, EngineRecord]) -> None:
    """Print the engines of a bundle in stages, which are of one library, device and precision."""
    engines = [record.engine.size_bytes for record in records.values()]
    seconds = sum(record.build_seconds for record in records.values())
    total = f"{console.size(sum(engines))} in {len(engines)}, which share no weights, built in {seconds:.1f} s"
    console.show_facts({"engines": total, **_common(next(iter(records.values())))}, title=title)
    rows = [
        (
            graph,
            console.size(record.engine.size_bytes),
            f"{record.build_seconds:.1f} s",
            _shares(record.precision.products),
            _attention(record.precision),
        )
        for graph, record in records.items()
    ]
    console.show_table(("graph", ">engine", ">built in", "weights multiplied in", "attention"), rows)


def _common(record: EngineRecord) -> dict[str, Any]:
    return {
        "library": f"{record.library} {record.library_version}",
        "for": _runs_on(record),
        "precision": console.good(f"{record.precision.requested}, as the network was read back"),
    }


def _attention(precision: EnginePrecision) -> str:
    chains = sum(precision.attention.values())
    fused = "" if precision.attention_fused is None else f", {precision.attention_fused} fused kernels built"
    return f"{precision.attention_fusable} of {chains} in a form that can be fused{fused}"


def _runs_on(record: EngineRecord) -> str:
    if record.compute_capability is None:
        return f"compute capability {', '.join(record.built_for) or 'as the library chose'}, built ahead of time"
    wider = "" if record.hardware_compatibility == "none" else f" and {record.hardware_compatibility}"
    return f"{record.device_name} (compute capability {record.compute_capability}{wider}), {record.driver}"


def _shares(shares: dict[str, float]) -> str:
    return ", ".join(f"{console.percent(share)} {name}" for name, share in shares.items()) or "none"
