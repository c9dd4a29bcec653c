"""How a measurement is made: one frozen record, every default beside its field and the unit in its name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from edgevit.errors import InputError

__all__ = ["Arrivals", "Scenario", "Settings"]

Scenario = Literal["single-stream", "multi-stream", "offline", "paced"]
Arrivals = Literal["fixed", "poisson", "trigger"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one measurement; stored with its results.

    A run ends when every candidate has `min_duration_s` of measured blocks *and* `min_queries` queries *and*, where
    candidates are compared, `min_rounds` blocks.

    Attributes:
        scenario: `single-stream` (a query follows the one before), `multi-stream` (a query is several samples),
            `offline` (throughput of full batches), `paced` (open loop: queries arrive whether or not the last is done).
        samples_per_query: images of one `multi-stream` query.
        arrivals: how `paced` queries arrive: at a fixed period, as a Poisson process of that mean period, or at the
            intervals of `trigger_gaps_ms`.
        period_ms: period of `paced` queries, or its mean.
        trigger_gaps_ms: gaps between recorded triggers, replayed in turn and over again.
        deadline_ms: a query that takes longer has missed; None for no deadline.
        warmup_cap_s: the longest a candidate is warmed up if the data never look steady.
        min_duration_s: measured time each candidate gets at least.
        min_queries: queries each candidate gets at least.
        min_rounds: blocks each candidate gets at least when several are compared; the comparison's sample size.
        block_s: length aimed at for one block, in the slowest candidate.
        lead_in_queries: queries that open a block and are kept apart: they meet caches that another process filled.
        percentiles: what to report, each above 0 and below 100.
        confidence: of the intervals beside percentiles, miss rates and correlations.
        verdict_confidence: of the interval that a verdict faster or slower rests on.
        pilot_rounds: rounds of the A/A pilot that precedes a comparison; 0 for none.
        profile_queries: queries profiled by layer after the timed run, in a run of their own; 0 for none.
        noise_images: number of different noise batches where candidates have no images.
        seed: of the noise, the order of blocks and images, the arrivals and the bootstrap.
        cpus: CPUs every candidate is bound to; None leaves the affinity as it is. It is recorded either way.
        include_transfers: count host-device transfers in device time, where a runner times its device.
        load_timeout_s: the longest a candidate may take to load.
        stall_timeout_s: the longest a block may run beyond what it was expected to take before it counts as hung.
        spin_ms: how long before an intended start the `paced` loop stops sleeping and watches the clock. Short, since
            watching keeps the CPU clock up and hides what a spaced trigger costs.
        telemetry_interval_s: time between two readings of clocks, temperatures, memory and power; 0 for none.
    """

    scenario: Scenario = "single-stream"
    samples_per_query: int = 8
    arrivals: Arrivals = "fixed"
    period_ms: float | None = None
    trigger_gaps_ms: tuple[float, ...] = ()
    deadline_ms: float | None = None
    warmup_cap_s: float = 15.0
    min_duration_s: float = 10.0
    min_queries: int = 100
    min_rounds: int = 20
    block_s: float = 0.2
    lead_in_queries: int = 1
    percentiles: tuple[float, ...] = (50.0, 90.0, 99.0)
    confidence: float = 0.95
    verdict_confidence: float = 0.99
    pilot_rounds: int = 20
    profile_queries: int = 0
    noise_images: int = 8
    seed: int = 0
    cpus: tuple[int, ...] | None = None
    include_transfers: bool = True
    load_timeout_s: float = 900.0
    stall_timeout_s: float = 60.0
    spin_ms: float = 0.2
    telemetry_interval_s: float = 0.5

    def validate(self) -> None:
        """Check every field, and fields against each other.

        Raises:
            InputError: the first value that makes no sense, with what was wanted.
        """
        _one_of("scenario", self.scenario, get_args(Scenario))
        _one_of("arrivals", self.arrivals, get_args(Arrivals))
        for name in ("min_duration_s", "block_s", "load_timeout_s", "stall_timeout_s"):
            _positive(name, getattr(self, name))
        for name in ("warmup_cap_s", "spin_ms", "telemetry_interval_s"):
            _not_negative(name, getattr(self, name))
        for name in ("samples_per_query", "min_queries", "min_rounds", "noise_images"):
            _count(name, getattr(self, name), least=1)
        for name in ("lead_in_queries", "pilot_rounds", "profile_queries", "seed"):
            _count(name, getattr(self, name), least=0)
        for name in ("period_ms", "deadline_ms"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))
        for name in ("confidence", "verdict_confidence"):
            if not 0.5 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; wanted at least 0.5 and below 1, such as 0.95")
        self._validate_percentiles()
        self._validate_pace()
        if self.cpus is not None and (not self.cpus or min(self.cpus) < 0 or len(set(self.cpus)) != len(self.cpus)):
            raise InputError(f"cpus is {list(self.cpus)}; wanted different CPU numbers, such as 0,1")

    def _validate_percentiles(self) -> None:
        if not self.percentiles:
            raise InputError("no percentile asked for; wanted at least one, such as 50")
        for percentile in self.percentiles:
            if not (math.isfinite(percentile) and 0 < percentile < 100):
                raise InputError(f"percentile is {percentile:g}; wanted above 0 and below 100, such as 99")

    def _validate_pace(self) -> None:
        if self.scenario != "paced":
            if self.period_ms is not None or self.trigger_gaps_ms:
                raise InputError(f"a period or trigger file is for the paced scenario, not for {self.scenario}")
            return
        if self.arrivals == "trigger":
            if not self.trigger_gaps_ms or self.period_ms is not None:
                raise InputError("trigger arrivals need the gaps of a trigger file and no period_ms")
            if min(self.trigger_gaps_ms) < 0 or not 0 < sum(self.trigger_gaps_ms) < math.inf:
                raise InputError("the trigger file's times must be finite, in ascending order and not all the same")
        elif self.period_ms is None or self.trigger_gaps_ms:
            raise InputError(f"the paced scenario with {self.arrivals} arrivals needs period_ms and no trigger file")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is '{value}'; wanted one of: {', '.join(allowed)}")


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} is {value:g}; wanted more than 0")


def _not_negative(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{name} is {value:g}; wanted 0 or more")


def _count(name: str, value: int, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value}; wanted a whole number of at least {least}")
