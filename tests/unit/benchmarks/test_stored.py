from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from by_hand import measurement, result, samples

from edgevit.benchmarks import Measurement, Settings
from edgevit.benchmarks.comparison import unpaired_ratio_interval
from edgevit.benchmarks.stored import check_baseline, compare_stored, differences, judge_baseline
from edgevit.errors import InputError


def stored(level_ms: float, *, name: str = "a", noise: float = 0.01, blocks: int = 40, seed: int = 0) -> Measurement:
    latency = level_ms * np.random.default_rng([seed, round(1000 * level_ms)]).lognormal(0.0, noise, blocks * 5)
    return measurement(result(samples(latency, block_size=5), name=name))


def test_two_files_are_compared_by_the_candidates_they_share() -> None:
    comparison = compare_stored(stored(10), stored(12))[0]
    assert comparison.candidate == "a"
    assert comparison.interval.low < 1.2 < comparison.interval.high
    assert comparison.interval.high / comparison.interval.low < 1.02
    assert comparison.first_median_ns == pytest.approx(10e6, rel=0.01)


def test_of_one_candidate_each_the_names_need_not_match() -> None:
    assert compare_stored(stored(10, name="x"), stored(10, name="y"))[0].candidate == "y (then x)"


def test_other_images_are_a_difference_and_other_folders_are_not() -> None:
    noise = stored(10)
    here = replace(noise, image_names=("here/a.png", "here/b.png"))
    there = replace(noise, image_names=("there/a.png", "there/b.png"))
    assert differences(here, there) == ()
    assert differences(here, noise) == ("images: 2 from a.png to b.png and noise",)


def test_files_that_share_nothing_are_refused_with_their_names() -> None:
    both = measurement(result(samples([1.0] * 20), name="p"), result(samples([1.0] * 20), name="q"))
    with pytest.raises(InputError, match="no candidate was measured in both: p, q; and a"):
        compare_stored(both, stored(10))


@pytest.mark.parametrize("level, verdict", [(10.0, "pass"), (10.2, "pass"), (11.5, "regressed"), (9.0, "pass")])
def test_a_baseline_passes_what_it_allows_and_no_more(level: float, verdict: str) -> None:
    assert judge_baseline(stored(10.0), stored(level, seed=1), 0.05)[0].verdict == verdict


def test_a_noisy_run_near_the_limit_is_inconclusive() -> None:
    gate = judge_baseline(stored(10.0, noise=0.3, blocks=8), stored(10.5, noise=0.3, blocks=8), 0.05)[0]
    assert gate.verdict == "inconclusive"
    assert gate.most == 1.05


def test_another_machine_scenario_or_runtime_is_said_and_compared_only_by_force() -> None:
    baseline, now = stored(10), stored(10, seed=1)
    elsewhere = replace(now, machine={**now.machine, "cpu": "another"})
    assert differences(baseline, elsewhere) == ("cpu: hand-made and another",)
    with pytest.raises(InputError, match=r"not like this run \(cpu: hand-made and another\).*--force"):
        judge_baseline(baseline, elsewhere, 0.05)
    assert judge_baseline(baseline, elsewhere, 0.05, force=True)[0].verdict == "pass"
    offline = replace(now, settings=Settings(scenario="offline"))
    assert differences(baseline, offline) == ("scenario: single-stream and offline",)
    loaded = now.results[0].loaded
    assert loaded is not None
    threads = replace(
        now, results=(replace(now.results[0], loaded=replace(loaded, facts={**loaded.facts, "threads": 4})),)
    )
    assert differences(baseline, threads) == ("threads of a: 1 and 4",)


def test_a_new_version_of_the_runtime_is_what_a_baseline_is_for() -> None:
    now = stored(10, seed=1)
    loaded = now.results[0].loaded
    assert loaded is not None
    newer = replace(
        now, results=(replace(now.results[0], loaded=replace(loaded, facts={**loaded.facts, "version": "2"})),)
    )
    assert differences(stored(10), newer) == ()


@pytest.mark.parametrize("allowed", [-0.1, float("nan"), float("inf")])
def test_a_slowdown_that_makes_no_sense_is_refused(allowed: float) -> None:
    with pytest.raises(InputError, match="wanted 0 or more, such as 5%"):
        judge_baseline(stored(10), stored(10), allowed)


def test_unpaired_intervals_cover_the_true_ratio() -> None:
    """500 seeded trials; no wall clock."""
    covered = 0
    for trial in range(500):
        rng = np.random.default_rng([31, trial])
        a, b = 1.2 * rng.lognormal(0, 0.03, 15), rng.lognormal(0, 0.05, 15)
        interval = unpaired_ratio_interval(a, b, seed=trial, resamples=300)
        covered += interval.low <= 1.2 <= interval.high
    assert covered / 500 >= 0.93


def test_what_a_baseline_cannot_judge_is_refused_before_measuring() -> None:
    baseline = stored(10)
    like = {"settings": baseline.settings, "machine": baseline.machine}
    check_baseline(baseline, names=["a", "new"], max_slowdown=0.05, **like)  # type: ignore[arg-type]
    check_baseline(baseline, names=["renamed"], max_slowdown=0.05, **like)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the baseline has a and not b, c"):
        check_baseline(baseline, names=["b", "c"], max_slowdown=0.05, **like)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="wanted 0 or more"):
        check_baseline(baseline, names=["a"], max_slowdown=-1, **like)  # type: ignore[arg-type]
    elsewhere = {"settings": Settings(scenario="offline"), "machine": {**baseline.machine, "cpu": "another"}}
    with pytest.raises(InputError, match=r"cpu: hand-made and another; scenario: single-stream and offline.*--force"):
        check_baseline(baseline, names=["a"], max_slowdown=0.05, **elsewhere)  # type: ignore[arg-type]
    check_baseline(baseline, names=["a"], max_slowdown=0.05, force=True, **elsewhere)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cpu: hand-made and"):
        check_baseline(baseline, baseline.settings, ["a"], 0.05)  # this machine's own facts
