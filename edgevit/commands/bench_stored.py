"""What `edgevit bench` does with a stored measurement: compare it with another, or judge a new one by it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit import console
from edgevit.commands.bench_outcome import confidence_of, of_interval, of_ratio
from edgevit.errors import InputError

if TYPE_CHECKING:
    from edgevit.benchmarks import Gate, Measurement, Settings

__all__ = ["Gatekeeper", "compare"]


@dataclass(frozen=True)
class Gatekeeper:
    """A baseline, and by how much it may be exceeded.

    Attributes:
        baseline: the stored measurement.
        max_slowdown: as a share.
        force: judge although machine or scenario differ.
    """

    baseline: Measurement
    max_slowdown: float
    force: bool

    @classmethod
    def open(cls, file: Path, max_slowdown: str | None, force: bool) -> Gatekeeper:
        """Read the baseline.

        Raises:
            InputError: it is no measurement, or the slowdown no percentage.
        """
        share = _share("5%" if max_slowdown is None else max_slowdown)
        return cls(_stored(file), share, force)

    def check(self, settings: Settings, names: list[str]) -> None:
        """Refuse before measuring.

        Raises:
            InputError: what will be measured cannot be judged by it.
        """
        from edgevit.benchmarks import check_baseline

        check_baseline(self.baseline, settings, names, self.max_slowdown, force=self.force)

    def judge(self, measurement: Measurement) -> tuple[Gate, ...]:
        """A gate for each candidate that the baseline knows.

        Raises:
            InputError: they differ in what only measuring showed.
        """
        from edgevit.benchmarks import judge_baseline

        return judge_baseline(self.baseline, measurement, self.max_slowdown, force=self.force)


def compare(first_file: Path, second_file: Path, *, as_json: bool) -> None:
    """Print the ratio of the second to the first, and what keeps them from being like with like.

    Raises:
        InputError: one is no measurement, or they share no candidate.
    """
    from edgevit.benchmarks import compare_stored, differences

    first, second = _stored(first_file), _stored(second_file)
    comparisons, unlike = compare_stored(first, second), differences(first, second)
    if as_json:
        console.show_json({"comparisons": comparisons, "differences": unlike})
        return
    rows: list[list[Any]] = [
        [
            one.candidate,
            console.milliseconds(one.first_median_ns),
            console.milliseconds(one.second_median_ns),
            of_ratio(one.interval.ratio),
            of_interval(one.interval),
        ]
        for one in comparisons
    ]
    columns = ("candidate", f">{first_file}", f">{second_file}", ">ratio", confidence_of(comparisons[0].interval))
    console.show_table(columns, rows, title=f"median milliseconds a query, ratio to {first_file}")
    for difference in unlike:
        console.show_line(console.caution("they differ"), difference)
    for file, measurement in ((first_file, first), (second_file, second)):
        if measurement.ended == "interrupted":
            console.show_line(console.caution("partial"), f"{file} was interrupted")
    console.show_line(console.faint("not interleaved: what changed on the machine between the two is in the ratio"))


def _stored(file: Path) -> Measurement:
    from edgevit.benchmarks import measurement_from_json
    from edgevit.files import reading

    with reading(file, "wanted a file written by edgevit bench --output"):
        content = file.read_bytes()
    return measurement_from_json(content, str(file))


def _share(text: str) -> float:
    """0.05 for `5%`, `5 %` and `5`."""
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not (math.isfinite(percent) and percent >= 0):
        raise InputError(f"--max-slowdown {text}: wanted per cent, 0 or more, such as 5%")
    return percent / 100
