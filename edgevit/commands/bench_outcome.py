"""What `edgevit bench` found: for people, for programs, and as the errors that its exit status comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from edgevit import console
from edgevit.commands.bench_remarks import remarks
from edgevit.errors import CheckFailed

if TYPE_CHECKING:
    from edgevit.benchmarks import (
        Comparison,
        Gate,
        LoadgenCheck,
        Measurement,
        Profile,
        RatioInterval,
        Summary,
    )

__all__ = ["Outcome", "confidence_of", "of_interval", "of_ratio"]

# More operators or blocks than this are no overview.
_MOST_GROUPS = 12


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A measurement with what was asked of it besides.

    Attributes:
        measurement: itself.
        summary: its figures.
        gates: verdicts by the baseline.
        loadgen: MLPerf's loadgen over the same candidates.
    """

    measurement: Measurement
    summary: Summary
    gates: Sequence[Gate] = ()
    loadgen: Sequence[LoadgenCheck] = ()

    def to_dict(self) -> dict[str, Any]:
        """For programs: the summary and, whether or not they were asked for, all the rest."""
        return {
            "ended": self.measurement.ended,
            **{field.name: getattr(self.summary, field.name) for field in fields(self.summary)},
            "profiles": [_profile_dict(profile) for profile in self.measurement.profiles],
            "gates": self.gates,
            "loadgen": self.loadgen,
        }

    def problems(self, strict: bool) -> list[CheckFailed]:
        """Why the exit status is 1, the gravest first."""
        found = [f"{one.name}: {one.failure}" for one in self.summary.candidates if one.failure is not None]
        if self.measurement.ended == "interrupted":
            found.append("the run was interrupted: these figures are partial; run it to its end")
        for gate in self.gates:
            if gate.verdict == "regressed" or (strict and gate.verdict == "inconclusive"):
                what = "is slower than" if gate.verdict == "regressed" else "cannot be told from slower than"
                found.append(f"{gate.candidate} {what} the baseline allows: {_against_baseline(gate)}")
        for check in self.loadgen:
            for one in check.agreements:
                if not one.agrees:
                    seen = f"{one.ratio.ratio:.3f} times loadgen's, {of_interval(one.ratio)}"
                    found.append(f"{check.candidate}: the harness's p{one.percentile:g} is {seen}; trust neither")
        if strict and self.summary.checks:
            checks = self.summary.checks
            found.append(f"{len(checks)} checks stand against these figures (--strict); the first: {checks[0]}")
        return [CheckFailed(line) for line in found]

    def show(self) -> None:
        """Print the figures, how far they can be trusted, and what stands against them."""
        _show_figures(self.measurement, self.summary)
        for candidate in self.summary.candidates:
            for line in remarks(candidate):
                console.show_line(f"{candidate.name}: {line}")
        if self.summary.energy_absence is not None:
            console.show_line(console.faint(f"no energy of a query: {self.summary.energy_absence}"))
        if (pilot := self.summary.pilot) is not None:
            reference = self.summary.candidates[0].name
            console.show_line(
                console.faint(f"{reference} against itself: {of_ratio(pilot.ratio)}, {of_interval(pilot)}")
            )
        for profile in self.measurement.profiles:
            _show_profile(profile)
        if self.gates:
            _show_gates(self.gates)
        if self.loadgen:
            _show_loadgen(self.loadgen)
        for check in self.summary.checks:
            console.show_line(console.caution(check.name), str(check))


def of_ratio(ratio: float) -> str:
    """`0.472`; `0.00023` for one so small."""
    return f"{ratio:.3f}" if ratio >= 0.1 else f"{ratio:.2g}"


def of_interval(interval: RatioInterval) -> str:
    """`0.465 to 0.480`."""
    return f"{of_ratio(interval.low)} to {of_ratio(interval.high)}"


def confidence_of(interval: RatioInterval) -> str:
    """The heading of a column of such intervals."""
    return f"{100 * interval.confidence:g} % interval"


def _show_figures(measurement: Measurement, summary: Summary) -> None:
    reference = summary.candidates[0].name
    against = {comparison.candidate: comparison for comparison in summary.comparisons}
    columns = ["bundle", ">queries", *(f">p{percentile:g}" for percentile in measurement.settings.percentiles)]
    if measurement.settings.scenario in ("multi-stream", "offline"):
        columns.append(">images/s")
    if against:
        columns += [">ratio", confidence_of(summary.comparisons[0].interval), "verdict"]
    rows = []
    for candidate in summary.candidates:
        row: list[Any] = [candidate.name, str(candidate.queries)]
        row += [_milliseconds(percentile.value) for percentile in candidate.percentiles]
        if ">images/s" in columns:
            row.append("-" if candidate.images_per_s is None else f"{candidate.images_per_s:.4g}")
        if against:
            row += _ratio(against.get(candidate.name))
        rows.append(row)
    console.show_table(columns, rows, title="milliseconds a query" + (f", ratio to {reference}" if against else ""))


def _milliseconds(duration_ns: float | None) -> str:
    """`-` for a percentile that so few queries do not give; a check says how many it takes."""
    return "-" if duration_ns is None else console.milliseconds(duration_ns)


def _ratio(comparison: Comparison | None) -> list[Any]:
    if comparison is None:
        return ["", "", ""]
    mark = {"faster": console.good, "slower": console.bad, "inconclusive": console.faint}[comparison.verdict]
    return [of_ratio(comparison.interval.ratio), of_interval(comparison.interval), mark(comparison.verdict)]


def _groups(profile: Profile) -> dict[str, Any]:
    from edgevit.benchmarks import by_block, by_operator, by_step

    return {"step": by_step(profile), "block": by_block(profile), "operator": by_operator(profile)}


def _profile_dict(profile: Profile) -> dict[str, Any]:
    groups = {f"by_{name}": found for name, found in _groups(profile).items()}
    return {field.name: getattr(profile, field.name) for field in fields(profile)} | groups


def _show_profile(profile: Profile) -> None:
    if profile.absence is not None:
        console.show_line(console.caution("no profile"), f"{profile.candidate}: {profile.absence}")
        return
    for name, groups in _groups(profile).items():
        if name == "step" and len(groups) < 2:
            continue  # a model without recursion
        shown, rest = groups[:_MOST_GROUPS], groups[_MOST_GROUPS:]
        rows = [(one.name, f"{one.time_ns / 1e6:.3f}", console.percent(one.share)) for one in shown]
        if rest:
            time_ns, share = sum(one.time_ns for one in rest), sum(one.share for one in rest)
            rows.append((f"{len(rest)} more", f"{time_ns / 1e6:.3f}", console.percent(share)))
        console.show_line("")
        title = f"{profile.candidate}: milliseconds of a profiled query"
        console.show_table((name, ">ms", ">share"), rows, title=title)
    console.show_line("")


def _show_gates(gates: Sequence[Gate]) -> None:
    marks = {"pass": console.good, "regressed": console.bad, "inconclusive": console.caution}
    for gate in gates:
        console.show_line(
            f"{gate.candidate} against the baseline:", marks[gate.verdict](gate.verdict), _against_baseline(gate)
        )


def _against_baseline(gate: Gate) -> str:
    seen = f"ratio {gate.interval.ratio:.3f}, {confidence_of(gate.interval)} {of_interval(gate.interval)}"
    return f"{seen}, and {gate.most:g} is allowed"


def _show_loadgen(checks: Sequence[LoadgenCheck]) -> None:
    rows: list[list[Any]] = [
        [
            check.candidate,
            f"p{one.percentile:g}",
            console.milliseconds(one.harness_ns),
            console.milliseconds(one.loadgen_ns),
            f"{one.ratio.ratio:.3f}",
            of_interval(one.ratio),
            console.good("agree") if one.agrees else console.bad("differ"),
        ]
        for check in checks
        for one in check.agreements
    ]
    title = (
        f"MLPerf's loadgen in turn with the harness, {checks[0].rounds} rounds of {checks[0].queries_per_round} queries"
    )
    columns = ("bundle", "", ">harness ms", ">loadgen ms", ">ratio", confidence_of(checks[0].agreements[0].ratio), "")
    console.show_table(columns, rows, title=title)
