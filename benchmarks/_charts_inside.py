"""The charts that look inside a candidate: what its images do to it, and where in its layers the time goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._drawing import COLOURS, MS, Chart, numbers
from .layers import Profile, by_block, by_operator, by_step
from .measurement import CandidateResult
from .summary import CandidateSummary


def by_image(
    index: int,
    result: CandidateResult,
    one: CandidateSummary,
    worst_case: CandidateSummary | None,
    image_names: Sequence[str],
) -> list[Chart]:
    """Latency against the active patches of the image, where both are known, below its worst case where that is."""
    if one.images is None or one.worst_case_of is not None or result.counts is None or result.batch_size != 1:
        return []
    which, position = np.unique(result.measured.batches[:, 0], return_inverse=True)
    latency = result.measured.service_ns
    medians = np.array([np.median(latency[position == i]) for i in range(len(which))]) / MS
    active = result.counts.sum(axis=1)[which]
    if np.ptp(active) == 0:  # a graph that does the same for every image has nothing to show here
        return []
    depth = (result.counts > 0).sum(axis=1)[which]
    names = [image_names[i] if i < len(image_names) else f"image {i}" for i in which]
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"depth {steps}",
            "marker": {"size": 7, "opacity": 0.75, "color": COLOURS[(int(steps) - 1) % len(COLOURS)]},
            "x": numbers(active[depth == steps]),
            "y": numbers(medians[depth == steps]),
            "text": [name for name, here in zip(names, depth == steps, strict=True) if here],
            "hovertemplate": "%{text}: %{x} patches, %{y:.3f} ms<extra></extra>",
        }
        for steps in np.unique(depth)
    ]
    caption = "Each dot is an image: its median latency, and how many patches took part over all recursion steps."
    if worst_case is not None and worst_case.median_ns is not None:
        level = worst_case.median_ns / MS
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "worst case",
                "line": {"color": "#888888", "width": 1.5, "dash": "dot"},
                "x": [float(active.min()), float(active.max())],
                "y": [level, level],
                "hovertemplate": "every step at its fullest: %{y:.3f} ms<extra></extra>",
            }
        )
        caption += " The dotted line is every step at its fullest, which no image exceeds."
    if one.images.image_share is not None:
        caption += f" Images explain {100 * one.images.image_share:.0f} % of the variance; the rest is jitter."
    layout = {
        "height": 340,
        "xaxis": {"title": {"text": "active patches, all steps"}},
        "yaxis": {"title": {"text": "median latency (ms)"}},
    }
    return [Chart(f"image-{index}", f"Images of {one.name}", caption, data, layout)]


def by_layer(profile: Profile, colour: str) -> list[Chart]:
    """Time by block, recursion step and operator, in the candidate's colour."""
    if not profile.layers:
        return []
    charts: list[Chart] = []
    views = (("block", by_block(profile)), ("recursion step", by_step(profile)), ("operator", by_operator(profile)))
    for what, groups in views:
        if what == "recursion step" and len(groups) < 2:
            continue  # a model without recursion
        shown = groups[:14][::-1] if what != "recursion step" else groups[::-1]
        data = [
            {
                "type": "bar",
                "orientation": "h",
                "marker": {"color": colour},
                "y": [group.name for group in shown],
                "x": [group.time_ns / MS for group in shown],
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
        if what == "block" and any(group.name == "(runtime)" for group in shown):
            caption += " Of what stands under (runtime), no name tells the module."
        title = f"{profile.candidate} by {what}"
        charts.append(Chart(f"layers-{len(charts)}-{profile.candidate}", title, caption, data, layout))
    return charts
