"""The part of `edgevit doctor` that asks whether TensorRT will take a bundle's graph, with no device at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from edgevit import console
from edgevit.errors import CheckFailed, InputError
from edgevit.extras import needs

if TYPE_CHECKING:
    from rich.text import Text

    from edgevit.bundle import Bundle
    from edgevit.export.preflight import Finding
    from edgevit.targets import Target

__all__ = ["GraphReport", "graph_report", "refuse", "show_graph_report"]

_NODES_SHOWN = 2


@dataclass(frozen=True)
class GraphReport:
    """What is known of a bundle's graph, or of all its stages, on the releases of TensorRT that a target runs.

    Attributes:
        releases: their names.
        parsers: the installed libraries whose parser was asked, with their versions.
        findings: the worst first of each release; none where all take the graph as it is. Where there are stages, the
            nodes of one that several have, each after the stage it is in.
        unasked: why an installed library's parser was not asked, a line each.
        unseen: why the graph could not be looked at; None where it was.
    """

    releases: tuple[str, ...]
    parsers: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    unasked: tuple[str, ...] = ()
    unseen: str | None = None

    @property
    def refused(self) -> tuple[Finding, ...]:
        """Those that leave no engine."""
        return tuple(finding for finding in self.findings if finding.severity == "refused")


def graph_report(bundle: Bundle, target: Target) -> GraphReport | None:
    """Look at each graph of a bundle, its hash checked, for a target; None for one that TensorRT does not serve."""
    from edgevit.engine_library import load_library
    from edgevit.export.trt_releases import releases_of

    releases = releases_of(target.name)
    if not releases:
        return None
    names = tuple(release.name for release in releases)
    graphs = {name: bundle.read(name) for name in bundle.graphs}
    try:
        with needs("export"):
            from edgevit.export.ask_parser import ask_parser, library_name
            from edgevit.export.preflight import preflight
    except InputError as error:
        return GraphReport(names, unseen=str(error))
    findings = [
        finding
        for release in releases
        for finding in _of_all({name: preflight(graph, release) for name, graph in graphs.items()})
    ]
    parsers: list[str] = []
    unasked: list[str] = []
    # TensorRT-RTX parses anywhere and so stands in where the target's own library is not installed.
    own = {release.library for release in releases}
    for name in dict.fromkeys((*own, "tensorrt_rtx")):
        if not _installed(name):
            continue
        try:
            library = load_library(name)
        except InputError as error:
            unasked.append(str(error))
            continue
        parsers.append(library_name(library))
        said = _of_all({name: ask_parser(graph, library) for name, graph in graphs.items()})
        # What another library's parser refuses says nothing certain of the target.
        findings += said if name in own else [replace(finding, severity="unknown") for finding in said]
        break
    return GraphReport(names, tuple(parsers), tuple(findings), tuple(unasked))


def _of_all(findings: Mapping[str, Sequence[Finding]]) -> list[Finding]:
    """What was found in each graph, by its file, each thing once; the nodes of a stage after its file."""
    if len(findings) == 1:
        return [finding for found in findings.values() for finding in found]
    nodes: dict[Finding, list[str]] = {}
    for graph, found in findings.items():
        for finding in found:
            places = [f"{graph}: {node}" for node in finding.nodes] or [graph]
            nodes.setdefault(replace(finding, nodes=()), []).extend(places)
    return [replace(finding, nodes=tuple(places)) for finding, places in nodes.items()]


def show_graph_report(report: GraphReport) -> None:
    """Print it as a table, or as a line where nothing is amiss."""
    console.show_line("")
    if report.unseen is not None:
        console.show_line(
            console.caution(f"the graph was not looked at for {', '.join(report.releases)}:"), report.unseen
        )
        return
    for line in report.unasked:
        console.show_line(console.caution("parser not asked:"), line)
    asked = f"; asked: the parser of {', '.join(report.parsers)}" if report.parsers else "; no parser is installed here"
    title = f"graph for {', '.join(report.releases)}{asked}"
    if not report.findings:
        console.show_line(title)
        console.show_line(console.good("ok"), "nothing in it that is known to be refused, replaced or slow")
        return
    rows = [
        (finding.release, _styled(finding), finding.says, _places(finding.nodes), finding.remedy)
        for finding in report.findings
    ]
    console.show_table(("release", "state", "what", "where", "what to do"), rows, title=title)


def refuse(report: GraphReport, subject: str) -> None:
    """End the command where a release refuses the graph.

    Raises:
        CheckFailed: one does; the line has the first reason.
    """
    for finding in report.refused:
        where = f" ({_places(finding.nodes)})" if finding.nodes else ""
        raise CheckFailed(f"{subject}: {finding.release} refuses the graph: {finding.says}{where}; {finding.remedy}")


def _installed(name: str) -> bool:
    spec = find_spec(name)
    return spec is not None and spec.origin is not None  # type stubs leave a folder of the name, which has no origin


def _places(nodes: tuple[str, ...]) -> str:
    more = f" and {len(nodes) - _NODES_SHOWN} more" if len(nodes) > _NODES_SHOWN else ""
    return ", ".join(nodes[:_NODES_SHOWN]) + more


def _styled(finding: Finding) -> Text:
    style = {"refused": console.bad, "unknown": console.faint}.get(finding.severity, console.caution)
    return style(finding.severity)
