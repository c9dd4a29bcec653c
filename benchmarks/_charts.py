"""The charts of the page, as plotly's plain data: what to draw, and nothing of how the page looks around it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._charts_inside import by_image, by_layer
from ._charts_time import over_time
from ._drawing import MS, Chart, Measured, colour, drawn_ranks, drawn_samples, log_axis, numbers
from .measurement import Measurement
from .summary import Summary


def all_charts(measurement: Measurement, summary: Summary) -> list[Chart]:
    """Every chart that the measurement has something for, in the page's order."""
    measured = [(i, r, s) for i, (r, s) in enumerate(zip(measurement.results, summary.candidates, strict=True))]
    measured = [(i, r, s) for i, r, s in measured if len(r.measured)]
    if not measured:
        return []
    charts = [*_ratios(summary), _ecdf(measured), _histogram(measured), over_time(measured, measurement)]
    worst_cases = {one.worst_case_of: one for _, _, one in measured}
    for index, result, one in measured:
        charts += by_image(index, result, one, worst_cases.get(one.name), measurement.image_names)
    charts += _warm_up(measured)
    position = {one.name: index for index, one in enumerate(summary.candidates)}
    for profile in measurement.profiles:
        charts += by_layer(profile, colour(position.get(profile.candidate, 0)))
    return charts


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
        ordered = np.sort(result.measured.latency_ns) / MS
        ranks = drawn_ranks(len(ordered))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "line": {"color": colour(index), "shape": "hv", "width": 2},
                "name": one.name,
                "x": numbers(ordered[ranks]),
                "y": numbers(100 * (ranks + 1) / len(ordered)),
                "hovertemplate": "%{y:.2f} % within %{x:.3f} ms<extra></extra>",
            }
        )
    caption = (
        "How many queries were done within a time. The flatter the top, the longer the tail; no query is left out."
    )
    layout = {
        "height": 360,
        "xaxis": log_axis("latency (ms)", [result.measured.latency_ns / MS for _, result, _ in measured]),
        "yaxis": {"title": {"text": "queries (%)"}, "range": [0, 101]},
    }
    return Chart("ecdf", "Share of queries done", caption, data, layout)


def _histogram(measured: Measured) -> Chart:
    latencies = [result.measured.latency_ns / MS for _, result, _ in measured]
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
                "line": {"color": colour(index), "shape": "hvh", "width": 1.5},
                "fill": "tozeroy",
                "opacity": 0.8,
                "name": one.name,
                "x": numbers(np.sqrt(edges[:-1] * edges[1:])),
                "y": numbers(100 * counts / len(latency)),
                "hovertemplate": "%{y:.1f} % near %{x:.3f} ms<extra></extra>",
            }
        )
    layout = {
        "height": 320,
        "xaxis": log_axis("latency (ms)", latencies),
        "yaxis": {"title": {"text": "queries (%)"}, "rangemode": "tozero"},
    }
    caption = (
        "Where latencies gather. Several hills are several kinds of query: images of different depth, or another clock."
    )
    return Chart("histogram", "Distribution of latency", caption, data, layout)


def _warm_up(measured: Measured) -> list[Chart]:
    data = []
    for index, result, one in measured:
        if result.warm_up is None:
            continue
        samples = result.warm_up.samples
        shown = drawn_samples(samples.service_ns)
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "marker": {"size": 3},
                "line": {"width": 1, "color": colour(index)},
                "name": one.name,
                "x": numbers((samples.end_ns[shown] - samples.start_ns[0]) / 1e9),
                "y": numbers(samples.service_ns[shown] / MS),
                "hovertemplate": "%{y:.3f} ms after %{x:.2f} s<extra></extra>",
            }
        )
    layout = {
        "height": 300,
        "xaxis": {"title": {"text": "time since the first query (s)"}},
        "yaxis": log_axis("latency (ms)", [np.array(trace["y"]) for trace in data]),
    }
    caption = "The queries before measuring. They end where latencies no longer move, and count for nothing else."
    return [Chart("warm-up", "Warm-up", caption, data, layout)] if data else []


def _line(x: float) -> dict[str, Any]:
    dotted = {"color": "#888888", "width": 1.5, "dash": "dot"}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": dotted}
