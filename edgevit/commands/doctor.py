"""`edgevit doctor`: what this machine has, and whether a bundle will run on it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgevit import __version__, console
from edgevit.commands.doctor_chain import Rung, show_chain, try_runtimes
from edgevit.commands.doctor_graph import GraphReport, graph_report, refuse, show_graph_report
from edgevit.commands.listing import runtimes, show_runtimes
from edgevit.commands.options import Json
from edgevit.errors import CheckFailed, EdgevitError, InputError
from edgevit.extras import EXTRAS, installed_version

if TYPE_CHECKING:
    from edgevit.manifest import Manifest
    from edgevit.targets import Target

__all__ = ["Finding", "doctor"]

_Bundle = Annotated[Path | None, typer.Argument(metavar="BUNDLE", help="A bundle to try here.")]
_Target = Annotated[
    str | None, typer.Option("--target", metavar="NAME", help="The target it is meant for, to be checked.")
]


_FILES = "files"


@dataclass(frozen=True)
class Finding:
    """One thing that was tried.

    Attributes:
        subject: what.
        passed: whether it is as it should be.
        detail: what was seen, or the error's line.
    """

    subject: str
    passed: bool
    detail: str


def doctor(bundle: _Bundle = None, target: _Target = None, json: Json = False) -> None:
    """Say what this machine has, and whether a bundle runs on it."""
    if target is not None and bundle is None:
        raise InputError("--target is what a bundle is checked for; give the bundle too")
    report = {"machine": _machine(), "runtimes": runtimes(), "extras": _extras()}
    chain: list[Rung] = []
    findings = [] if bundle is None else list(_try(bundle, target, chain))
    graph = _graph(bundle, target) if bundle is not None and findings[0].passed else None
    if json:
        console.show_json(
            report
            if bundle is None
            else report | {"bundle": bundle, "findings": findings, "chain": chain, "graph": graph}
        )
    else:
        _show(report)
        if bundle is not None:
            _show_findings(bundle, findings)
            show_chain(chain)
        if graph is not None:
            show_graph_report(graph)
    for finding in findings:
        if not finding.passed:
            # A damaged bundle is bad input, as it is for every command that opens one.
            raise (InputError if finding.subject == _FILES else CheckFailed)(
                f"{bundle}: {finding.subject}: {finding.detail}"
            )
    if graph is not None:
        refuse(graph, str(bundle))


def _machine() -> dict[str, Any]:
    from edgevit.benchmarks.facts import machine_facts

    return {"edgevit": __version__, "python": platform.python_version(), **machine_facts()}


def _extras() -> list[dict[str, Any]]:
    return [
        {
            "name": extra.name,
            "gives": extra.gives,
            "available": sys.version_info >= extra.since,
            "libraries": {name: installed_version(name) for name in extra.libraries},
        }
        for extra in EXTRAS
    ]


def _graph(path: Path, target: str | None) -> GraphReport | None:
    """What TensorRT will make of the graph, for a target that it serves."""
    from edgevit.bundle import Bundle
    from edgevit.targets import target_named

    bundle = Bundle.open(path)
    return graph_report(bundle, target_named(target or bundle.manifest.target))


def _try(path: Path, target: str | None, chain: list[Rung]) -> Iterator[Finding]:
    """What a bundle is asked here, one after the other; a damaged one is asked no further.

    What would run it goes to `chain`. For a target with engines that is told and judged by nobody: what its graph needs
    is known without a device, and a device that is not there is no fault of the bundle's.
    """
    from edgevit.bundle import Bundle
    from edgevit.engine_record import library_of
    from edgevit.targets import target_named

    wanted = target_named(target) if target is not None else None
    try:
        bundle = Bundle.open(path)
        bundle.verify_files()
    except EdgevitError as error:
        yield Finding(_FILES, False, str(error))
        return
    yield Finding(_FILES, True, f"{len(bundle.manifest.files)} files, every hash as in the manifest")
    if wanted is not None:
        yield from _suits(bundle.manifest, wanted)
    aim = wanted or target_named(bundle.manifest.target)
    for rung in try_runtimes(bundle, aim):
        chain.append(rung)
        if library_of(aim.runtime) is None:
            yield Finding(rung.runtime, rung.runs, rung.detail)


def _suits(manifest: Manifest, target: Target) -> Iterator[Finding]:
    """Whether a graph is one that the target takes, and, for a CPU, whether this machine is one."""
    from edgevit.targets import target_named

    made_for = target_named(manifest.target)
    alike = (
        made_for.runtime == target.runtime
        and made_for.attention == target.attention
        and manifest.opset <= target.newest_opset
        and manifest.precision_achieved in target.precisions
    )
    graph = f"a graph for {manifest.target}, {manifest.precision_achieved}, opset {manifest.opset}"
    yield Finding("target", alike, graph if alike else f"{graph}; export it again with --target {target.name}")
    here = {"x86_64": "x86-64", "AMD64": "x86-64", "aarch64": "AArch64", "arm64": "AArch64"}.get(platform.machine(), "")
    if target.architecture.startswith(("x86-64", "AArch64")):
        detail = f"this machine is {platform.machine()}, {target.name} is {target.architecture}"
        yield Finding("architecture", bool(here) and here in target.architecture, detail)


def _show(report: dict[str, Any]) -> None:
    facts = {name.replace("_", " "): str(value) for name, value in report["machine"].items()}
    if "memory_bytes" in report["machine"]:
        facts.pop("memory bytes")
        facts["memory"] = f"{report['machine']['memory_bytes'] / 1e9:.1f} GB"
    console.show_facts(facts, "machine")
    console.show_line("")
    show_runtimes(report["runtimes"])
    console.show_line("")
    console.show_table(
        ("extra", "gives", "state"), [(row["name"], row["gives"], _state(row)) for row in report["extras"]]
    )


def _state(extra: dict[str, Any]) -> Any:
    missing = [name for name, version in extra["libraries"].items() if version is None]
    if not missing:
        return console.good(", ".join(f"{name} {version}" for name, version in extra["libraries"].items()))
    if not extra["available"]:
        return console.faint("needs Python 3.11 or later")
    return console.faint(f"no {', '.join(missing)}: pip install 'edgevit[{extra['name']}]'")


def _show_findings(bundle: Path, findings: Sequence[Finding]) -> None:
    console.show_line("")
    rows = [
        (finding.subject, console.good("ok") if finding.passed else console.bad("failed"), finding.detail)
        for finding in findings
    ]
    console.show_table(("check", "state", "what was seen"), rows, title=str(bundle))
