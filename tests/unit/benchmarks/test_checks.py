from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from by_hand import measurement, result, samples, series

from edgevit.benchmarks import CandidateResult, Check, Settings
from edgevit.benchmarks.checks import query_overhead_ns, run_checks
from edgevit.benchmarks.child import Failure
from edgevit.benchmarks.telemetry import Series

CALM = [1.0, 1.01, 0.99, 1.0] * 50
PACED = Settings(scenario="paced", period_ms=1.0, percentiles=(50.0,))


def names(one: CandidateResult, *telemetry: Series, settings: Settings | None = None) -> list[str]:
    checks = run_checks(measurement(one, settings=settings, telemetry=telemetry))
    for check in checks:
        assert check.finding
        assert check.remedy
        assert "\n" not in str(check)
    return [check.name for check in checks]


def test_a_calm_measurement_has_nothing_against_it() -> None:
    calm = series("cpu_others", "share", [0, 50, 150], [0.01, 0.02, 0.01])
    clock = series("cpu_clock_mean", "MHz", list(range(0, 200, 10)), [2000.0] * 20)
    assert names(result(samples(CALM)), calm, clock) == []


def test_a_percentile_that_needs_more_is_named_with_the_number() -> None:
    found = run_checks(measurement(result(samples(CALM)), settings=Settings(percentiles=(99.0,))))
    assert [check.name for check in found] == ["too-few-samples"]
    assert "p99 needs 662 queries and 200 were measured" in found[0].finding
    assert "--iterations 662" in found[0].remedy


def test_drift_is_seen_in_the_blocks_and_noise_is_not() -> None:
    drifting = np.array(CALM) * np.linspace(1.0, 1.2, len(CALM))
    assert names(result(samples(drifting))) == ["drift"]
    noisy = np.array(CALM) * np.random.default_rng(0).lognormal(0.0, 0.3, len(CALM))
    assert names(result(samples(noisy))) == []


@pytest.mark.parametrize(
    "fields, name",
    [({"steady": False}, "not-steady"), ({"first_ms": 10.0}, "slow-first-run")],
)
def test_the_warm_up_is_checked(fields: dict[str, object], name: str) -> None:
    assert names(result(samples(CALM), **fields)) == [name]  # type: ignore[arg-type]


def test_a_query_of_a_few_steps_of_the_clock_is_too_short_to_time() -> None:
    assert "timer-too-coarse" in names(result(samples([0.004] * 200, gap_ns=1)))


def test_the_harness_says_when_it_is_in_the_way_itself() -> None:
    slow_harness = result(samples(CALM, gap_ns=50_000))
    assert query_overhead_ns(slow_harness.measured) == 50_000
    assert names(slow_harness) == ["overhead-too-large"]


def test_a_period_below_the_service_time_says_how_far_behind_it_fell() -> None:
    behind = [i * 0.5 for _ in range(20) for i in range(10)]
    # Intended starts 1 ms apart, service 1.5 ms: each of a block's ten is half a millisecond later than the one before.
    found = run_checks(measurement(result(samples([1.5] * 200, gap_ns=0, late_ms=behind)), settings=PACED))
    assert [check.name for check in found] == ["overloaded"]
    assert "(1.50 of the time between them)" in found[0].finding
    assert "4.5 ms late" in found[0].finding


def test_memory_that_keeps_growing_is_named() -> None:
    growing = [(100 + 5 * i) << 20 for i in range(20)]
    assert names(result(samples(CALM), resident_bytes=growing)) == ["memory-grew"]
    settled = [100 << 20] * 4 + [300 << 20] * 16
    assert names(result(samples(CALM), resident_bytes=settled)) == []


@pytest.mark.parametrize(
    "telemetry, name",
    [
        (series("cpu_others", "share", [0, 50, 150], [0.3, 0.2, 0.4]), "busy-machine"),
        (series("throttle_events_total", "events", [0, 50, 150], [3, 3, 5]), "throttled"),
        (series("throttled", "devices", [0, 50, 150], [0, 1, 1]), "throttled"),
        (series("gpu_throttled 0", "devices", [0, 50, 150], [0, 1, 0]), "throttled"),
        (series("cpu_clock_mean", "MHz", list(range(0, 200, 10)), [2000.0] * 10 + [1500.0] * 10), "clock-fell"),
    ],
)
def test_what_telemetry_shows_while_measuring_is_checked(telemetry: Series, name: str) -> None:
    assert names(result(samples(CALM)), telemetry) == [name]


def test_what_happened_before_and_after_measuring_does_not_count() -> None:
    elsewhere = series("cpu_others", "share", [-50, 100, 9000], [0.9, 0.0, 0.9])
    assert names(result(samples(CALM)), elsewhere) == []


def test_failures_and_interruptions_come_first() -> None:
    failed = replace(result(samples(CALM)), failure=Failure("died", "'a' exited with status 3 during 'block'"))
    found = run_checks(replace(measurement(failed), ended="interrupted"))
    assert [check.name for check in found] == ["interrupted", "failed"]
    assert found[1].finding == "'a' exited with status 3 during 'block'; 200 queries measured before are kept"


def test_a_check_reads_as_one_line() -> None:
    assert str(Check("drift", "a", "it drifts", "wait")) == "a: it drifts; wait"
    assert str(Check("busy-machine", "", "it is busy", "end it")) == "it is busy; end it"
