"""How `edgevit bench --autotune` times choices: by the harness, a process each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgevit.bundle import Bundle
from edgevit.errors import CheckFailed
from edgevit.tuning_record import Choice, Ratio

if TYPE_CHECKING:
    from edgevit.benchmarks import Progress, RatioInterval, Settings

__all__ = ["HarnessTimer", "Timed", "Timer"]


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What the harness says of one choice.

    Attributes:
        median_ms: of a query, in milliseconds; None where it failed.
        ratio: to the first choice, at the confidence of reports.
        verdict: the same at the confidence of verdicts.
        floor: ratio that two processes of the first choice showed between them; 1 where that was not measured.
        rounds: pairs of blocks it rests on.
        failure: why it was not timed.
    """

    median_ms: float | None = None
    ratio: Ratio | None = None
    verdict: Ratio | None = None
    floor: float = 1.0
    rounds: int = 0
    failure: str | None = None


class Timer(Protocol):
    """Times choices side by side; the first is what the others are compared with."""

    def __call__(self, choices: Sequence[Choice], *, thorough: bool, tell: Callable[[float], None]) -> list[Timed]: ...


class HarnessTimer:
    """The harness as a `Timer`: a process each, in blocks that take turns.

    Args:
        bundle: that every choice runs.
        images: .npy file of preprocessed images, M x 3 x H x W float32.
    """

    def __init__(self, bundle: Bundle, images: Path) -> None:
        self._bundle = bundle
        self._images = images

    def __call__(self, choices: Sequence[Choice], *, thorough: bool, tell: Callable[[float], None]) -> list[Timed]:
        from edgevit.benchmarks import Candidate, measure, summarise

        def progress(at: Progress) -> None:
            tell(at.done if at.phase == "measure" else 0.0)

        candidates = [
            Candidate(
                name=f"{number}: {choice}",
                factory="edgevit.runtimes.choose:open_runner",
                arguments={
                    "bundle": str(self._bundle.path),
                    "runtime": choice.runtime,
                    "threads": choice.threads,
                },
                images=self._images,
            )
            for number, choice in enumerate(choices)
        ]
        measurement = measure(candidates, _settings(thorough), progress=progress)
        if measurement.ended != "complete":
            raise CheckFailed(f"{self._bundle.path}: interrupted before there was a verdict; nothing was kept")
        summary = summarise(measurement)
        compared = {comparison.candidate: comparison for comparison in summary.comparisons}
        timed = []
        for one in summary.candidates:
            comparison = compared.get(one.name)
            timed.append(
                Timed(
                    median_ms=None if one.median_ns is None else one.median_ns / 1e6,
                    ratio=None if comparison is None else _ratio(comparison.interval),
                    verdict=None if comparison is None else _ratio(comparison.verdict_interval),
                    floor=1.0 if comparison is None else comparison.floor,
                    rounds=0 if comparison is None else comparison.rounds,
                    failure=one.failure,
                )
            )
        return timed


def _settings(thorough: bool) -> Settings:
    from edgevit.benchmarks import Settings

    if thorough:
        return Settings()
    return Settings(pilot_rounds=0, min_duration_s=2.0, min_queries=30, min_rounds=10, warmup_cap_s=5.0)


def _ratio(interval: RatioInterval) -> Ratio:
    return Ratio(ratio=interval.ratio, low=interval.low, high=interval.high, confidence=interval.confidence)
