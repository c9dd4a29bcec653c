"""Figures as people read them: one place for units and rounding, shared by the reports."""

from __future__ import annotations

from .comparison import Comparison
from .image_effects import ImageEffects
from .measurement import Measurement
from .order_statistics import Interval, Percentile

_STEPS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))


def duration(nanoseconds: float | None, digits: int = 3) -> str:
    """`12.3 ms`: the unit that fits and at least so many significant digits; `-` for None."""
    if nanoseconds is None:
        return "-"
    for size, unit in _STEPS:
        if abs(nanoseconds) >= size:
            value = nanoseconds / size
            whole_digits = len(str(int(abs(value))))
            return f"{value:.{max(0, digits - whole_digits)}f} {unit}"
    return f"{nanoseconds:g} ns"


def joules(energy: float) -> str:
    """`0.412 J`, `12.3 mJ`: three digits that count."""
    return f"{energy:.3g} J" if abs(energy) >= 0.1 else f"{1e3 * energy:.3g} mJ"


def active_patches(images: ImageEffects | None) -> str | None:
    """`368 for every image`, `92.4 an image, 24 to 368`; None where the graph does not tell."""
    if images is None or images.active_tokens is None:
        return None
    least, most = images.active_tokens_range
    if least == most:
        return f"{least:g} for every image"
    return f"{images.active_tokens:.4g} an image, {least:g} to {most:g}"


def span(interval: Interval | None) -> str:
    """`12.31 ms to 12.47 ms`, a digit more than a figure has; `?` for a bound that the sample cannot give."""
    if interval is None:
        return "-"
    low, high = (("?" if bound is None else duration(bound, digits=4)) for bound in (interval.low, interval.high))
    return f"{low} to {high}"


def percentile_value(percentile: Percentile) -> str:
    """The value, or what it takes to have one."""
    if percentile.value is None:
        return f"needs {percentile.needed} queries, has {percentile.samples}"
    return duration(percentile.value)


def headline(comparison: Comparison) -> str:
    """`topk takes 0.471 of the time of dense (95 % interval 0.465 to 0.480): faster`."""
    one = comparison.interval
    return (
        f"{comparison.candidate} takes {one.ratio:.3f} of the time of {comparison.reference} "
        f"({100 * one.confidence:g} % interval {one.low:.3f} to {one.high:.3f}): {comparison.verdict}"
    )


def machine_line(measurement: Measurement) -> str:
    """The machine in one line."""
    machine = measurement.machine
    memory = machine.get("memory_bytes")
    parts = [
        machine.get("board"),
        machine.get("cpu"),
        f"{machine['cpus']} CPUs",
        None if memory is None else f"{float(memory) / 2**30:.0f} GiB",
        machine.get("operating_system"),
    ]
    return ", ".join(str(part) for part in parts if part is not None)


def scenario_line(measurement: Measurement) -> str:
    """What was asked for, in one line."""
    settings = measurement.settings
    words = {
        "single-stream": "single-stream: a query follows the one before",
        "multi-stream": f"multi-stream: {settings.samples_per_query} images a query",
        "offline": "offline: throughput of full batches",
        "paced": f"paced, {settings.arrivals} arrivals: latency counts from when a query was due",
    }[settings.scenario]
    if settings.period_ms is not None:
        words += f", every {settings.period_ms:g} ms"
    images = f"{len(measurement.image_names)} images" if measurement.image_names else "seeded noise"
    return f"{words}; {images}; seed {settings.seed}"
