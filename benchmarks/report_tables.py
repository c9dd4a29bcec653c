"""Reports that are tables: CSV with a row for each query, Markdown with a row for each candidate."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

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
from .measurement import CandidateResult, Measurement, Samples
from .summary import summarise

__all__ = ["COLUMNS", "measurement_to_csv", "measurement_to_markdown"]

COLUMNS = (
    "candidate", "phase", "block", "image",
    "intended_ns", "start_ns", "end_ns", "latency_ns", "device_ns", "active_patches",
)  # fmt: skip


def measurement_to_csv(measurement: Measurement) -> bytes:
    """Every query, one a row: warm-up, lead-in and measured, told apart by `phase`.

    `image` is the name, or where there is none the index, of the first image of the query's first graph run.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in measurement.results:
        warm_up = None if result.warm_up is None else result.warm_up.samples
        for phase, samples in (("warm-up", warm_up), ("lead-in", result.lead_in), ("measured", result.measured)):
            if samples is not None:
                writer.writerows(_rows(result, phase, samples, measurement.image_names))
    return text.getvalue().encode()


def measurement_to_markdown(measurement: Measurement) -> str:
    """The summary for people and pull requests."""
    summary = summarise(measurement)
    percentiles = measurement.settings.percentiles
    lines = [
        "# Latency",
        "",
        f"{machine_line(measurement)}  ",
        f"{scenario_line(measurement)}  ",
        f"measured {measurement.started_at}, {measurement.elapsed_s:.0f} s"
        + (" (interrupted: partial)" if measurement.ended == "interrupted" else ""),
        "",
        *_table(
            ["candidate", "queries", "median", "interval", *(f"p{p:g}" for p in percentiles), "images/s", "memory"],
            [
                [
                    candidate.name,
                    str(candidate.queries),
                    duration(candidate.median_ns),
                    span(candidate.median_interval),
                    *map(percentile_value, candidate.percentiles),
                    "-" if candidate.images_per_s is None else f"{candidate.images_per_s:.4g}",
                    "-"
                    if candidate.peak_resident_bytes is None
                    else f"{candidate.peak_resident_bytes / 2**20:.0f} MiB",
                ]
                for candidate in summary.candidates
            ],
        ),
    ]
    if summary.comparisons:
        lines += ["", *(f"- {_cell(headline(comparison))}" for comparison in summary.comparisons)]
    if summary.pilot is not None:
        pilot = summary.pilot
        lines.append(
            f"- {_cell(summary.candidates[0].name)} against a second process of itself: {pilot.ratio:.3f} "
            f"({100 * pilot.confidence:g} % interval {pilot.low:.3f} to {pilot.high:.3f}): equals differ that much here"
        )
    for candidate in summary.candidates:
        if candidate.deadline is not None:
            missed = candidate.deadline
            lines.append(
                f"- {_cell(candidate.name)} missed {missed.missed} of {missed.queries} deadlines of "
                f"{missed.deadline_ms:g} ms ({_per_cent(missed.interval.low)} to {_per_cent(missed.interval.high)})"
            )
        if (active := active_patches(candidate.images)) is not None:
            lines.append(f"- {_cell(candidate.name)} has active patches: {active}")
        lines += [
            f"- {_cell(candidate.name)} takes {joules(one.joules_per_query)} a query of {_cell(one.series)}"
            for one in candidate.energy
        ]
    if summary.energy_absence is not None:
        lines.append(f"- no energy of a query: {_cell(summary.energy_absence)}")
    lines += ["", "## Checks", ""]
    lines += [f"- **{check.name}** {_cell(str(check))}" for check in summary.checks] or ["Nothing stands against them."]
    return "\n".join(lines) + "\n"


def _rows(
    result: CandidateResult, phase: str, samples: Samples, image_names: Sequence[str]
) -> Iterator[list[str | int]]:
    images = 0 if result.loaded is None else result.loaded.images
    active = None if result.counts is None else result.counts.sum(axis=1)
    for row in range(len(samples)):
        image = int(samples.batches[row, 0]) * result.batch_size % max(images, 1) if images else None
        yield [
            result.candidate.name,
            phase,
            int(samples.block[row]),
            "" if image is None else image_names[image] if image < len(image_names) else image,
            int(samples.intended_ns[row]),
            int(samples.start_ns[row]),
            int(samples.end_ns[row]),
            int(samples.end_ns[row] - samples.intended_ns[row]),
            "" if samples.device_ns is None else int(samples.device_ns[row]),
            "" if active is None or image is None else int(active[image]),
        ]


def _per_cent(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.2f} %"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    alignment = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(map(_cell, row))} |" for row in (header, alignment, *rows)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
