"""The chart of latency over time, with the telemetry of the same time in rows under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ._drawing import COLOURS, MOST_POINTS, MS, WORST_KEPT, Chart, Measured, colour, drawn_samples, log_axis, numbers
from .measurement import Measurement
from .telemetry import Series


def over_time(measured: Measured, measurement: Measurement) -> Chart:
    """Latency over time, with the telemetry of the same time in rows under it."""
    zero = min(int(result.measured.start_ns[0]) for _, result, _ in measured)
    data: list[dict[str, Any]] = []
    for index, result, one in measured:
        samples = result.measured
        shown = drawn_samples(samples.latency_ns)
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "marker": {"color": colour(index), "size": 3, "opacity": 0.6},
                "name": one.name,
                "x": numbers((samples.start_ns[shown] - zero) / 1e9),
                "y": numbers(samples.latency_ns[shown] / MS),
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
    layout["yaxis"].update(log_axis("latency (ms)", [result.measured.latency_ns / MS for _, result, _ in measured]))
    for row, (_, lines) in enumerate(rows, start=2):
        for number, (name, series) in enumerate(lines):
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "line": {"width": 1.5, "color": COLOURS[number % len(COLOURS)]},
                    "name": name,
                    "x": numbers((series.time_ns - zero) / 1e9),
                    "y": numbers(series.value),
                    "yaxis": f"y{row}",
                    "showlegend": False,
                    "hovertemplate": f"{name}: %{{y:.4g}}<extra></extra>",
                }
            )
    caption = "Each dot is a query"
    if any(len(result.measured) > MOST_POINTS for _, result, _ in measured):
        caption += f" (the {WORST_KEPT} slowest of each, and an even choice of the others)"
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
        ("other load" if not lines("gpu_busy") else "busy (share)", lines("cpu_others", "gpu_busy")),
        ("heat (°C)", lines("temperature")),
        ("power (W)", lines("power", "gpu_power")),
        ("memory (MiB)", lines("resident ", scale=2.0**-20)),
    ]
    return ((title, found) for title, found in rows if found)
