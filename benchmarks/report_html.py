"""One self-contained page: opens from a file, on a phone, with no network."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from edgevit.errors import MissingExtra

from . import _page
from ._charts import all_charts
from ._drawing import COLOURS
from ._words import (
    active_patches,
    duration,
    headline,
    joules,
    machine_line,
    percentile_value,
    scenario_line,
    span,
)
from .conditions import Condition
from .measurement import Measurement
from .summary import CandidateSummary, Summary, summarise

__all__ = ["measurement_to_html"]


def measurement_to_html(measurement: Measurement) -> str:
    """The page, with plotly and all data inside.

    Raises:
        MissingExtra: plotly is not installed.
    """
    plotly = _plotly_script()
    summary = summarise(measurement)
    charts = all_charts(measurement, summary)
    described = [
        {"id": f"chart-{number}", "data": chart.data, "layout": chart.layout} for number, chart in enumerate(charts)
    ]
    title = "Latency of " + ", ".join(candidate.name for candidate in summary.candidates)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_page.STYLE}</style></head><body><main>",
        *_opening(measurement, summary),
        *_checks(summary),
        *(
            f"<section><h2>{escape(chart.title)}</h2><p class=quiet>{escape(chart.caption)}</p>"
            f'<div class=chart id="chart-{number}" style="height:{chart.layout["height"]}px"></div></section>'
            for number, chart in enumerate(charts)
        ),
        *_details(measurement, summary),
        "</main>",
        f'<script type="application/json" id="charts">{_embedded(described)}</script>',
        f"<script>{plotly}</script><script>{_page.SCRIPT}</script></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _plotly_script() -> str:
    try:
        offline: Any = importlib.import_module("plotly.offline")
    except ImportError:
        raise MissingExtra("plotly", "bench") from None
    # A script may hold anything but its own end.
    return str(offline.get_plotlyjs()).replace("</script", "<\\/script")


def _embedded(value: object) -> str:
    """JSON that no browser takes for the end of the script it stands in."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _opening(measurement: Measurement, summary: Summary) -> Iterator[str]:
    names = ", ".join(candidate.name for candidate in summary.candidates)
    yield f"<h1>Latency of {escape(names)}</h1>"
    yield f"<p class=quiet>{escape(machine_line(measurement))}</p>"
    yield f"<p class=quiet>{escape(scenario_line(measurement))}</p>"
    if measurement.ended == "interrupted":
        yield "<p class='verdict slower'>The run was interrupted: these figures are partial.</p>"
    for comparison in summary.comparisons:
        yield f"<p class='verdict {comparison.verdict}'>{escape(headline(comparison))}</p>"
    if summary.pilot is not None:
        yield (
            f"<p class=quiet>Against a second process of itself, {escape(summary.candidates[0].name)} took "
            f"{summary.pilot.ratio:.3f} of the time ({summary.pilot.low:.3f} to {summary.pilot.high:.3f}): "
            "equal runs differ that much on this machine.</p>"
        )
    yield "<div class=cards>"
    for index, candidate in enumerate(summary.candidates):
        yield _card(candidate, COLOURS[index % len(COLOURS)])
    yield "</div>"


def _card(candidate: CandidateSummary, colour: str) -> str:
    rows = [("median lies in", span(candidate.median_interval)), ("queries", str(candidate.queries))]
    rows += [
        (f"p{one.percentile:g}", percentile_value(one))
        for one in candidate.percentiles
        if one.percentile != 50  # it stands above
    ]
    rows += [
        (f"p{one.percentile:g} at most", duration(one.upper_estimate))
        for one in candidate.percentiles
        if one.upper_estimate is not None and one.percentile > 50
    ]
    if candidate.images_per_s is not None:
        rows.append(("images/s", f"{candidate.images_per_s:.4g}"))
    rows += [("slowest", duration(candidate.max_ns)), ("first query", duration(candidate.first_query_ns))]
    rows += [("warm-up", duration(candidate.warm_up_ns)), ("load", duration(candidate.load_ns))]
    if candidate.device_median_ns is not None:
        rows.append(("on the device", duration(candidate.device_median_ns)))
    if candidate.peak_resident_bytes is not None:
        rows.append(("peak memory", f"{candidate.peak_resident_bytes / 2**20:.0f} MiB"))
    if candidate.deadline is not None:
        missed = candidate.deadline
        rows.append((f"over {missed.deadline_ms:g} ms", f"{missed.missed} of {missed.queries}"))
    if candidate.pace is not None:
        rows.append(("busy", f"{100 * candidate.pace.utilisation:.0f} % of the period"))
        rows.append(("most behind", duration(candidate.pace.most_behind_ns)))
    if (active := active_patches(candidate.images)) is not None:
        rows.append(("active patches", active))
    rows += [
        (f"energy a query ({one.series.removesuffix('_total')})", joules(one.joules_per_query))
        for one in candidate.energy
    ]
    if candidate.images is not None and candidate.images.image_share is not None:
        rows.append(("made by images", f"{100 * candidate.images.image_share:.0f} % of the variance"))
    if candidate.worst_case_of is not None:
        rows.append(("worst case of", candidate.worst_case_of))
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    failure = f"<p class='verdict slower'>{escape(candidate.failure)}</p>" if candidate.failure else ""
    return (
        f"<div class=card style='--colour:{colour}'><h3>{escape(candidate.name)}</h3>"
        f"<div class=big>{escape(duration(candidate.median_ns))}</div>{failure}<dl>{listed}</dl></div>"
    )


def _checks(summary: Summary) -> Iterator[str]:
    yield "<section><h2>Checks</h2><ul class=checks>"
    for check in summary.checks:
        # Options stay in one piece where a line ends.
        said = re.sub(r"--[a-z-]+", r"<code>\g<0></code>", escape(str(check)))
        yield f"<li><b>{escape(check.name)}</b> {said}</li>"
    if not summary.checks:
        yield "<li class=none>Nothing was found that stands against these figures.</li>"
    yield "</ul></section>"


def _details(measurement: Measurement, summary: Summary) -> Iterator[str]:
    settings = {name: getattr(measurement.settings, name) for name in measurement.settings.__dataclass_fields__}
    run = {"started": measurement.started_at, "took": f"{measurement.elapsed_s:.1f} s"}
    if measurement.command_line:
        run["command line"] = " ".join(measurement.command_line)
    yield _facts("Machine", {**measurement.machine, **run})
    yield _facts("Settings", settings)
    for result in measurement.results:
        if result.loaded is not None:
            loaded = result.loaded
            yield _facts(
                f"Candidate {result.candidate.name}",
                {
                    **loaded.facts,
                    **{f"library {name}": version for name, version in loaded.libraries.items()},
                    "input": loaded.input,
                    "CPUs": loaded.cpus,
                    **result.candidate.arguments,
                },
            )
    if summary.conditions:
        yield _facts("Conditions while measuring", {one.name: _condition(one) for one in summary.conditions})
    absent = {absence.source: absence.reason for absence in measurement.telemetry.absent}
    if summary.energy_absence is not None:
        absent["energy of a query"] = summary.energy_absence
    if absent:
        yield _facts("Not read here", absent)


def _condition(one: Condition) -> str:
    if one.increase is not None:
        return f"{one.increase:.4g} {one.unit} more"
    return f"{one.mean:.4g} {one.unit} ({one.low:.4g} to {one.high:.4g})"


def _facts(title: str, facts: Mapping[str, object]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in facts.items())
    return f"<details><summary>{escape(title)}</summary><table>{rows}</table></details>"
