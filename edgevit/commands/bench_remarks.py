"""What `edgevit bench` says of one candidate below its figures: misses, pace, energy, and what its images cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit import console

if TYPE_CHECKING:
    from edgevit.benchmarks import CandidateSummary
    from edgevit.benchmarks.image_effects import ImageEffects

__all__ = ["remarks"]


def remarks(candidate: CandidateSummary) -> list[str]:
    """A line each, in the order of their weight."""
    lines = []
    if candidate.worst_case_of is not None:
        lines.append(f"every step at its fullest, whatever the image: no image makes {candidate.worst_case_of} slower")
    if (deadline := candidate.deadline) is not None:
        lines.append(f"{deadline.missed} of {deadline.queries} over {deadline.deadline_ms:g} ms")
    if (pace := candidate.pace) is not None:
        late = f"{pace.late_queries} queries started over 1 ms late, the latest {pace.most_behind_ns / 1e6:.3g} ms"
        lines.append(f"busy {100 * pace.utilisation:.0f} % of the period; {late if pace.late_queries else 'none late'}")
    if candidate.images is not None and candidate.worst_case_of is None:
        lines += [_of_variance(candidate.images), *_of_tokens(candidate.images)]
    for energy in candidate.energy:
        lines.append(f"{energy.joules_per_query:.3g} J a query ({energy.series.removesuffix('_total')})")
    return lines


def _of_variance(images: ImageEffects) -> str:
    if images.image_share is None or images.jitter_spread_ns is None:
        wanted = f"--iterations {2 * images.images} tells images from jitter"
        return f"{images.images} images ran {images.runs_per_image:.1f} times each; {wanted}"
    share = f"{100 * images.image_share:.0f} % of the variance comes from the {images.images} images"
    return f"{share}; runs of one and the same spread over {console.milliseconds(images.jitter_spread_ns)} ms"


def _of_tokens(images: ImageEffects) -> list[str]:
    """How many tokens the images take, and how time follows them, where the graph tells."""
    if images.active_tokens is None:
        return []
    least, most = images.active_tokens_range
    if least == most:
        return [f"every image costs the same number of tokens, {least:g}: each is the worst case"]
    lines = [f"{images.active_tokens:.4g} active tokens an image over all steps, {least:g} to {most:g}"]
    if (correlation := images.correlation) is not None:
        low, high = correlation.interval.low, correlation.interval.high
        between = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
        lines.append(f"rank correlation of time with active tokens {correlation.value:.2f}{between}")
    if len(images.by_depth) > 1:
        groups = (
            f"{group.depth} (images: {group.images}) {console.milliseconds(group.median_ns)} ms"
            for group in images.by_depth
        )
        lines.append("median by the steps of an image's deepest patch: " + ", ".join(groups))
    return lines
