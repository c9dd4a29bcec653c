from __future__ import annotations

import numpy as np
import pytest
from by_hand import samples, series

from edgevit.benchmarks.modes import find_modes, find_outliers
from edgevit.benchmarks.telemetry import Telemetry


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [100, 1000, 20_000])
def test_one_hill_is_one_mode_however_skewed(seed: int, size: int) -> None:
    latency = 1e6 * np.random.default_rng(seed).lognormal(0.0, 0.4, size)
    assert len(find_modes(latency)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_two_levels_are_found_with_their_shares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    latency = 1e6 * np.concatenate([rng.normal(10, 0.3, 700), rng.normal(14, 0.4, 300)])
    fast, slow = find_modes(latency)
    assert fast.latency_ns == pytest.approx(10e6, rel=0.03)
    assert slow.latency_ns == pytest.approx(14e6, rel=0.03)
    assert (fast.share, slow.share) == pytest.approx((0.7, 0.3), abs=0.02)


def test_a_few_far_outliers_are_no_mode_and_hide_none() -> None:
    rng = np.random.default_rng(0)
    latency = 1e6 * np.concatenate([rng.normal(10, 0.3, 500), rng.normal(14, 0.3, 500), [900, 2000]])
    assert len(find_modes(latency)) == 2


def test_equal_latencies_are_one_mode_and_few_samples_show_none() -> None:
    assert [(mode.latency_ns, mode.share) for mode in find_modes(np.full(60, 5e6))] == [
        (pytest.approx(5e6, rel=1e-4), 1.0)
    ]
    assert find_modes(np.full(49, 5e6)) == ()


def test_outliers_are_counted_with_the_causes_telemetry_shows() -> None:
    latency = [1.0] * 90 + [1.1] * 10
    latency[20], latency[50], latency[80] = 30.0, 40.0, 50.0  # at 20, about 79 and about 148 ms
    telemetry = Telemetry(
        (
            series("cpu_others", "share", [0, 10, 60, 70, 300], [0.0, 0.0, 0.5, 0.0, 0.0]),
            series("throttle_events_total", "events", [0, 75, 125, 140, 300], [3, 3, 4, 4, 4]),
        ),
        (),
    )
    outliers = find_outliers(samples(latency, gap_ns=0), telemetry)
    assert outliers is not None
    assert outliers.queries == 3
    assert dict(outliers.causes) == {"other load": 1, "throttled": 1}


def test_without_telemetry_an_outlier_has_no_known_cause() -> None:
    outliers = find_outliers(samples([1.0] * 99 + [30.0]), Telemetry((), ()))
    assert outliers is not None
    assert (outliers.queries, outliers.causes) == (1, ())
