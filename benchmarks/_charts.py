"""The charts of the page, as plotly's plain data: what to draw, and nothing of how the page looks around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .layers import Profile, by_block, by_operator, by_step
from .measurement import CandidateResult, Measurement
from .summary import CandidateSummary, Summary
from .telemetry import Series

# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31")
# More points than this and a phone stutters.
_MOST_POINTS = 2000
_WORST_KEPT = 500
_MS = 1e6


@dataclass(frozen=True)
class Chart:
    """One chart: its heading, one sentence on how to read it, and plotly's data and layout."""

    name: str
    title: str
    caption: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]


def all_charts(measurement: Measurement, summary: Summary) -> list[Chart]:
    """Every chart that the measurement has something for, in the page's order."""
    measured = [(i, r, s) for i, (r, s) in enumerate(zip(measurement.results, summary.candidates, strict=True))]
    measured = [(i, r, s) for i, r, s in measured if len(r.measured)]
    if not measured:
        return []
    charts = [*_ratios(summary), _ecdf(measured), _histogram(measured), _over_time(measured, measurement)]
    for index, result, one in measured:
        charts += _by_image(index, result, one, measurement.image_names)
    charts += _warm_up(measured)
    for profile in measurement.profiles:
        charts += _layers(profile)
    return charts


Measured = Sequence[tuple[int, CandidateResult, CandidateSummary]]


def _ratios(summary: Summary) -> list[Chart]:
    comparisons = list(reversed(summary.comparisons))
    if not comparisons:
        return []
    marks = {"faster": "#009E73", "slower": "#D55E00", "inconclusive": "#888888"}
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [c.interval.ratio for c in comparisons],
            "y": [c.candidate for c in comparisons],
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [c.interval.high - c.interval.ratio for c in comparisons],
                "arrayminus": [c.interval.ratio - c.interval.low for c in comparisons],
                "color": "#888888",
                "thickness": 3,
                "width": 8,
            },
            "marker": {"size": 12, "color": [marks[c.verdict] for c in comparisons]},
            "text": [c.verdict for c in comparisons],
            "hovertemplate": "%{y}: %{x:.3f} (%{text})<extra></extra>",
            "showlegend": False,
        }
    ]
    reference = comparisons[0].reference
    shapes = [_line(x=1.0)]
    if summary.pilot is not None:
        shapes.append(
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": summary.pilot.low,
                "x1": summary.pilot.high,
                "y0": 0,
                "y1": 1,
                "fillcolor": "rgba(128,128,128,0.25)",
                "line": {"width": 0},
            }
        )
    caption = f"Left of 1 is faster than {reference}. The bar is the interval of the ratio of paired blocks"
    caption += "; the grey band is what two processes of the reference differ by." if summary.pilot else "."
    layout = {
        "height": 110 + 46 * len(comparisons),
        "xaxis": {"title": {"text": f"time over that of {reference}"}, "rangemode": "tozero"},
        "yaxis": {"automargin": True, "type": "category"},
        "shapes": shapes,
    }
    return [Chart("ratio", "Against the reference", caption, data, layout)]


def _ecdf(measured: Measured) -> Chart:
    data = []
    for index, result, one in measured:
        ordered = np.sort(result.measured.latency_ns) / _MS
        ranks = _drawn_ranks(len(ordered))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "line": {"color": _colour(index), "shape": "hv", "width": 2},
                "name": one.name,
                "x": _numbers(ordered[ranks]),
                "y": _numbers(100 * (ranks + 1) / len(ordered)),
                "hovertemplate": "%{y:.2f} % within %{x:.3f} ms<extra></extra>",
            }
        )
    caption = (
        "How many queries were done within a time. The flatter the top, the longer the tail; no query is left out."
    )
    layout = {
        "height": 360,
        "xaxis": {"title": {"text": "latency (ms)"}, "type": "log"},
        "yaxis": {"title": {"text": "queries (%)"}, "range": [0, 101]},
    }
    return Chart("ecdf", "Share of queries done", caption, data, layout)


def _histogram(measured: Measured) -> Chart:
    latencies = [result.measured.latency_ns / _MS for _, result, _ in measured]
    everything = np.concatenate(latencies)
    # Equal steps of the logarithm, so that candidates of different speed have bars of one width.
    low, high = float(everything.min()), float(everything.max())
    edges = np.geomspace(max(low, 1e-6) * 0.999, max(high, 1e-6) * 1.001, 81)
    data = []
    for (index, _, one), latency in zip(measured, latencies, strict=True):
        counts, _ = np.histogram(latency, edges)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "line": {"color": _colour(index), "shape": "hvh", "width": 1.5},
                "fill": "tozeroy",
                "opacity": 0.8,
                "name": one.name,
                "x": _numbers(np.sqrt(edges[:-1] * edges[1:])),
                "y": _numbers(100 * counts / len(latency)),
                "hovertemplate": "%{y:.1f} % near %{x:.3f} ms<extra></extra>",
            }
        )
    layout = {
        "height": 320,
        "xaxis": {"title": {"text": "latency (ms)"}, "type": "log"},
        "yaxis": {"title": {"text": "queries (%)"}, "rangemode": "tozero"},
    }
    caption = (
        "Where latencies gather. Several hills are several kinds of query: images of different depth, or another clock."
    )
    return Chart("histogram", "Distribution of latency", caption, data, layout)


def _over_time(measured: Measured, measurement: Measurement) -> Chart:
    """Latency over time, with the telemetry of the same time in rows under it."""
    zero = min(int(result.measured.start_ns[0]) for _, result, _ in measured)
    data: list[dict[str, Any]] = []
    for index, result, one in measured:
        samples = result.measured
        shown = _drawn_samples(samples.latency_ns)
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "marker": {"color": _colour(index), "size": 3, "opacity": 0.6},
                "name": one.name,
                "x": _numbers((samples.start_ns[shown] - zero) / 1e9),
                "y": _numbers(samples.latency_ns[shown] / _MS),
                "hovertemplate": "%{y:.3f} ms at %{x:.1f} s<extra></extra>",
            }
        )
    end = max(int(result.measured.end_ns[-1]) for _, result, _ in measured)
    rows = list(_telemetry_rows(measurement.telemetry.series))
    heights = [2.4, *[1.0] * len(rows)]
    gap = 0.06 if rows else 0.0
    unit = (1 - gap * len(rows)) / sum(heights)
    top = 1.0
    layout: dict[str, Any] = {
        "height": 340 + 130 * len(rows),
        "xaxis": {
            "title": {"text": "time (s)"},
            "anchor": f"y{len(rows) + 1}" if rows else "y",
            "range": [-0.01 * (end - zero) / 1e9, 1.01 * (end - zero) / 1e9],  # what came before is not measured
        },
    }
    titles = ["latency (ms)", *(title for title, _ in rows)]
    for row, (height, title) in enumerate(zip(heights, titles, strict=True)):
        axis = {"title": {"text": title}, "domain": [max(0.0, top - height * unit), top], "rangemode": "tozero"}
        layout["yaxis" if row == 0 else f"yaxis{row + 1}"] = axis
        top -= height * unit + gap
    layout["yaxis"]["type"] = "log"
    for row, (_, lines) in enumerate(rows, start=2):
        for number, (name, series) in enumerate(lines):
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "line": {"width": 1.5, "color": COLOURS[number % len(COLOURS)]},
                    "name": name,
                    "x": _numbers((series.time_ns - zero) / 1e9),
                    "y": _numbers(series.value),
                    "yaxis": f"y{row}",
                    "showlegend": False,
                    "hovertemplate": f"{name}: %{{y:.4g}}<extra></extra>",
                }
            )
    caption = "Each dot is a query"
    if any(len(result.measured) > _MOST_POINTS for _, result, _ in measured):
        caption += f" (the {_WORST_KEPT} slowest of each, and an even choice of the others)"
    caption += "; below it, what the machine was doing." if rows else "; no telemetry was read."
    return Chart("time", "Over time", caption, data, layout)


def _telemetry_rows(all_series: Sequence[Series]) -> Iterator[tuple[str, list[tuple[str, Series]]]]:
    """Rows of telemetry worth a look: a title each, and its lines."""

    def lines(*prefixes: str, scale: float = 1.0) -> list[tuple[str, Series]]:
        return [
            (s.name, Series(s.name, s.unit, s.source, s.time_ns, s.value * scale))
            for s in all_series
            if s.name.startswith(prefixes) and len(s.value)
        ]

    rows = [
        ("clock (MHz)", lines("cpu_clock_mean", "gpu_clock")),
        ("busy (share)", lines("cpu_others", "gpu_busy")),
        ("heat (°C)", lines("temperature")),
        ("power (W)", lines("power", "gpu_power")),
        ("memory (MiB)", lines("resident ", scale=2.0**-20)),
    ]
    return ((title, found) for title, found in rows if found)


def _by_image(index: int, result: CandidateResult, one: CandidateSummary, image_names: Sequence[str]) -> list[Chart]:
    """Latency against the active patches of the image, where both are known."""
    if one.images is None or result.counts is None or result.batch_size != 1:
        return []
    which, position = np.unique(result.measured.batches[:, 0], return_inverse=True)
    latency = result.measured.service_ns
    medians = np.array([np.median(latency[position == i]) for i in range(len(which))]) / _MS
    active = result.counts.sum(axis=1)[which]
    if np.ptp(active) == 0:  # a graph that does the same for every image has nothing to show here
        return []
    depth = (result.counts > 0).sum(axis=1)[which]
    names = [image_names[i] if i < len(image_names) else f"image {i}" for i in which]
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"depth {steps}",
            "marker": {"size": 7, "opacity": 0.75, "color": COLOURS[(int(steps) - 1) % len(COLOURS)]},
            "x": _numbers(active[depth == steps]),
            "y": _numbers(medians[depth == steps]),
            "text": [name for name, here in zip(names, depth == steps, strict=True) if here],
            "hovertemplate": "%{text}: %{x} patches, %{y:.3f} ms<extra></extra>",
        }
        for steps in np.unique(depth)
    ]
    caption = "Each dot is an image: its median latency, and how many patches took part over all recursion steps."
    if one.images.image_share is not None:
        caption += f" Images explain {100 * one.images.image_share:.0f} % of the variance; the rest is jitter."
    layout = {
        "height": 340,
        "xaxis": {"title": {"text": "active patches, all steps"}},
        "yaxis": {"title": {"text": "median latency (ms)"}},
    }
    return [Chart(f"image-{index}", f"Images of {one.name}", caption, data, layout)]


def _warm_up(measured: Measured) -> list[Chart]:
    data = []
    for index, result, one in measured:
        if result.warm_up is None:
            continue
        samples = result.warm_up.samples
        shown = _drawn_samples(samples.service_ns)
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "marker": {"size": 3},
                "line": {"width": 1, "color": _colour(index)},
                "name": one.name,
                "x": _numbers((samples.end_ns[shown] - samples.start_ns[0]) / 1e9),
                "y": _numbers(samples.service_ns[shown] / _MS),
                "hovertemplate": "%{y:.3f} ms after %{x:.2f} s<extra></extra>",
            }
        )
    layout = {
        "height": 300,
        "xaxis": {"title": {"text": "time since the first query (s)"}},
        "yaxis": {"title": {"text": "latency (ms)"}, "type": "log"},
    }
    caption = "The queries before measuring. They end where latencies no longer move, and count for nothing else."
    return [Chart("warm-up", "Warm-up", caption, data, layout)] if data else []


def _layers(profile: Profile) -> list[Chart]:
    if not profile.layers:
        return []
    charts: list[Chart] = []
    views = (("block", by_block(profile)), ("recursion step", by_step(profile)), ("operator", by_operator(profile)))
    for what, groups in views:
        shown = groups[:14][::-1] if what != "recursion step" else groups[::-1]
        data = [
            {
                "type": "bar",
                "orientation": "h",
                "marker": {"color": COLOURS[0]},
                "y": [group.name for group in shown],
                "x": [group.time_ns / _MS for group in shown],
                "text": [f"{100 * group.share:.1f} %" for group in shown],
                "textposition": "auto",
                "hovertemplate": "%{y}: %{x:.3f} ms<extra></extra>",
                "showlegend": False,
            }
        ]
        layout = {
            "height": 110 + 26 * len(shown),
            "xaxis": {"title": {"text": "time in one query (ms)"}, "rangemode": "tozero"},
            "yaxis": {"automargin": True, "type": "category"},
        }
        caption = f"From a run of its own over {profile.queries} queries; profiling makes every layer a little slower."
        title = f"{profile.candidate} by {what}"
        charts.append(Chart(f"layers-{len(charts)}-{profile.candidate}", title, caption, data, layout))
    return charts


def _drawn_samples(values: np.ndarray) -> np.ndarray:
    """Which samples to draw, in order: all; or the slowest and an even choice of the others."""
    if len(values) <= _MOST_POINTS:
        return np.arange(len(values))
    slowest = np.argpartition(values, -_WORST_KEPT)[-_WORST_KEPT:]
    even = np.linspace(0, len(values) - 1, _MOST_POINTS - _WORST_KEPT).astype(np.int64)
    return np.union1d(slowest, even)


def _drawn_ranks(samples: int) -> np.ndarray:
    """Ranks to draw a distribution by: all; or the hundred highest and an even choice of the others."""
    if samples <= 1000:
        return np.arange(samples)
    even = np.linspace(0, samples - 1, 900).astype(np.int64)
    return np.union1d(even, np.arange(samples - 100, samples))


def _numbers(values: np.ndarray) -> list[float]:
    """Six digits are more than a chart can show, and half the bytes."""
    return [float(f"{value:.6g}") for value in np.asarray(values, dtype=np.float64)]


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _line(x: float) -> dict[str, Any]:
    dotted = {"color": "#888888", "width": 1.5, "dash": "dot"}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": dotted}
