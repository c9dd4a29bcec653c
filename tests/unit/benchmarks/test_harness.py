"""Whole measurements on a scripted clock: every figure is exact, and nothing takes time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scripted import CLOCK, LocalChild, launch_locally, scripted_candidate

from edgevit.benchmarks import Candidate, Measurement, Progress, Settings, measure, summarise
from edgevit.errors import InputError

MS = 1_000_000
QUICK = Settings(min_duration_s=0.4, min_queries=20, min_rounds=4, block_s=0.1, pilot_rounds=0, warmup_cap_s=2)


def run(*candidates: Candidate, settings: Settings = QUICK, **options: object) -> Measurement:
    return measure(candidates, settings, launch=launch_locally, readers=(), **options)  # type: ignore[arg-type]


def images_file(folder: Path, values: list[float]) -> Path:
    """Images 3 x 2 x 2 filled with one value each."""
    path = folder / "images.npy"
    np.save(path, np.array(values, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 2, 2), dtype=np.float32))
    return path


def test_latencies_come_back_to_the_nanosecond() -> None:
    result = run(scripted_candidate("a", [3 * MS + 1])).results[0]
    assert set(result.measured.latency_ns.tolist()) == {3 * MS + 1}
    assert result.failure is None


def test_a_run_ends_when_both_the_time_and_the_count_are_met() -> None:
    by_time = run(scripted_candidate("a", [MS])).results[0].measured
    assert by_time.latency_ns.sum() >= 0.4e9
    assert by_time.latency_ns.sum() < 0.6e9
    slow = Settings(min_duration_s=0.1, min_queries=50, block_s=0.1, warmup_cap_s=2)
    by_count = run(scripted_candidate("a", [20 * MS]), settings=slow).results[0].measured
    assert 50 <= len(by_count) < 60


def test_a_comparison_also_gets_its_rounds() -> None:
    settings = Settings(min_duration_s=0.001, min_queries=1, min_rounds=7, pilot_rounds=0, warmup_cap_s=2)
    measurement = run(scripted_candidate("a", [MS]), scripted_candidate("b", [MS]), settings=settings)
    assert len(measurement.orders) == 7
    assert [len(result.measured.block_medians()) for result in measurement.results] == [7, 7]


def test_blocks_are_interleaved_in_balanced_order_and_alike_for_all() -> None:
    measurement = run(scripted_candidate("a", [MS]), scripted_candidate("b", [2 * MS]), scripted_candidate("c", [MS]))
    for first, second in zip(measurement.orders[::2], measurement.orders[1::2], strict=False):
        assert second == first[::-1]
    for block, order in enumerate(measurement.orders):
        starts = [r.measured.start_ns[r.measured.block == block][0] for r in measurement.results]
        assert np.argsort(starts).tolist() == list(order)
    a, b, c = (result.measured.batches.tolist() for result in measurement.results)
    assert a == b == c


def test_queries_that_open_a_block_are_kept_and_kept_apart() -> None:
    settings = Settings(min_duration_s=0.2, min_queries=1, block_s=0.1, lead_in_queries=2, warmup_cap_s=2)
    measurement = run(scripted_candidate("a", [MS]), settings=settings)
    result = measurement.results[0]
    assert len(result.lead_in) == 2 * len(measurement.orders)
    for block in range(len(measurement.orders)):
        last_lead_in = result.lead_in.end_ns[result.lead_in.block == block][-1]
        assert last_lead_in <= result.measured.start_ns[result.measured.block == block][0]


def test_a_slow_first_query_belongs_to_the_warm_up_and_is_reported() -> None:
    measurement = run(scripted_candidate("a", [MS], first_ns=50 * MS))
    warm_up = measurement.results[0].warm_up
    assert warm_up is not None
    assert warm_up.samples.latency_ns[0] == 50 * MS
    assert warm_up.steady
    assert measurement.results[0].measured.latency_ns.max() == MS
    check = next(check for check in summarise(measurement).checks if check.name == "slow-first-run")
    assert check.finding == "the first query took 50.0 ms, 50.0 times a later one"


def test_a_warm_up_that_never_settles_ends_at_its_cap_and_says_so() -> None:
    growing = [round(MS * 1.01**i) for i in range(400)]
    settings = Settings(min_duration_s=0.1, min_queries=1, warmup_cap_s=0.5, block_s=0.05)
    measurement = run(scripted_candidate("a", growing), settings=settings)
    warm_up = measurement.results[0].warm_up
    assert warm_up is not None
    assert not warm_up.steady
    assert 0.5e9 <= warm_up.duration_ns < 0.8e9
    assert any(check.name == "not-steady" for check in summarise(measurement).checks)


def test_paced_queries_count_from_their_intended_start() -> None:
    settings = Settings(
        scenario="paced", period_ms=10, min_duration_s=0.2, min_queries=20, deadline_ms=12, warmup_cap_s=1, spin_ms=0
    )
    measurement = run(scripted_candidate("a", [15 * MS]), settings=settings)
    samples = measurement.results[0].measured
    block = samples.block == 0
    lateness = samples.start_ns[block] - samples.intended_ns[block]
    assert np.diff(lateness).tolist() == [5 * MS] * (block.sum() - 1)
    deadline = summarise(measurement).candidates[0].deadline
    assert deadline is not None
    assert deadline.missed == deadline.queries


def test_a_multi_stream_query_is_as_long_as_its_samples() -> None:
    settings = Settings(scenario="multi-stream", samples_per_query=8, min_duration_s=0.1, min_queries=5, warmup_cap_s=1)
    measurement = run(scripted_candidate("a", [MS], shape=(2, 3, 2, 2)), settings=settings)
    assert set(measurement.results[0].measured.latency_ns.tolist()) == {4 * MS}
    summary = summarise(measurement).candidates[0]
    assert summary.images_per_query == 8
    assert summary.images_per_s == pytest.approx(2000)


def test_offline_throughput_counts_every_image_of_a_batch() -> None:
    settings = Settings(scenario="offline", min_duration_s=0.1, min_queries=5, warmup_cap_s=1)
    measurement = run(scripted_candidate("a", [4 * MS], shape=(16, 3, 2, 2)), settings=settings)
    assert summarise(measurement).candidates[0].images_per_s == pytest.approx(4000)


def test_every_candidate_sees_every_image_equally_often(tmp_path: Path) -> None:
    path = images_file(tmp_path, [1, 2, 3, 4, 5])
    a = Candidate(name="a", factory="scripted:make", arguments={"latencies_ns": [MS], "by_image": 1000}, images=path)
    samples = run(a, image_names=list("vwxyz")).results[0].measured
    uses = np.bincount(samples.batches[:, 0], minlength=5)
    assert uses.max() - uses.min() <= 1
    assert (samples.latency_ns == MS + 1000 * (1 + samples.batches[:, 0])).all()


def test_active_patches_of_every_image_are_asked_for_once_and_padding_is_dropped(tmp_path: Path) -> None:
    path = images_file(tmp_path, [12, 6, 24])
    arguments = {"latencies_ns": [MS], "steps": 3, "shape": (2, 3, 2, 2)}
    result = run(Candidate(name="a", factory="scripted:make", arguments=arguments, images=path)).results[0]
    assert result.counts is not None
    assert result.counts.tolist() == [[12, 6, 4], [6, 3, 2], [24, 12, 8]]


def test_the_pilot_measures_two_processes_of_the_reference_and_leaves_no_sample_in_the_results() -> None:
    settings = Settings(min_duration_s=0.2, min_queries=4, min_rounds=4, pilot_rounds=6, warmup_cap_s=1, block_s=0.05)
    measurement = run(scripted_candidate("a", [MS]), scripted_candidate("b", [2 * MS]), settings=settings)
    pilot = measurement.pilot
    assert pilot is not None
    assert len(pilot.first.block_medians()) == len(pilot.second.block_medians()) == 6
    assert len(measurement.orders) < 20
    assert set(measurement.results[0].measured.block.tolist()) == set(range(len(measurement.orders)))
    summary = summarise(measurement)
    assert summary.pilot is not None
    assert summary.pilot.ratio == pytest.approx(1.0)
    assert summary.comparisons[0].interval.ratio == pytest.approx(2.0)
    assert summary.comparisons[0].verdict == "slower"


def test_a_single_candidate_needs_no_pilot() -> None:
    measurement = run(
        scripted_candidate("a", [MS]), settings=Settings(min_duration_s=0.1, min_queries=1, warmup_cap_s=1)
    )
    assert measurement.pilot is None


@pytest.mark.parametrize("misbehave", ["raise", "refuse"])
def test_a_candidate_that_fails_ends_alone_and_keeps_what_it_measured(misbehave: str) -> None:
    bad = scripted_candidate("bad", [MS], misbehave=misbehave, at_call=600)
    measurement = run(scripted_candidate("good", [MS]), bad)
    good, failed = measurement.results
    assert good.failure is None
    assert good.measured.latency_ns.sum() >= 0.4e9
    assert failed.failure is not None
    assert 0 < len(failed.measured) < len(good.measured)
    summary = summarise(measurement)
    assert any(check.name == "failed" and check.candidate == "bad" for check in summary.checks)
    assert summary.candidates[1].median_ns == MS


def test_a_candidate_that_cannot_be_loaded_is_recorded_and_the_others_are_measured() -> None:
    refused = Candidate(name="refused", factory="scripted:refuse")
    measurement = run(refused, scripted_candidate("a", [MS]))
    assert measurement.results[0].failure is not None
    assert measurement.results[0].loaded is None
    assert len(measurement.results[1].measured) > 0
    assert summarise(measurement).comparisons == ()


def test_when_no_candidate_can_be_loaded_the_first_reason_is_the_error() -> None:
    with pytest.raises(InputError, match=r"bundle 'x' has no model.onnx; export it again"):
        run(Candidate(name="a", factory="scripted:refuse"), Candidate(name="b", factory="scripted:absent"))


def test_ctrl_c_keeps_what_was_measured_and_marks_it_partial() -> None:
    asked = []

    def interrupt(command: str) -> None:
        asked.append(command)
        if asked.count("block") == 24:  # nine windows of warm-up each, and three rounds
            raise KeyboardInterrupt

    children = []

    def launch(candidate: Candidate) -> LocalChild:
        children.append(LocalChild(interrupt))
        return children[-1]

    measurement = measure(
        [scripted_candidate("a", [MS]), scripted_candidate("b", [MS])], QUICK, launch=launch, readers=()
    )
    assert measurement.ended == "interrupted"
    assert all(child.closed for child in children)
    assert len(measurement.results[0].measured) > 0
    assert summarise(measurement).checks[0].name == "interrupted"


def test_ctrl_c_before_anything_was_measured_is_ctrl_c() -> None:
    def interrupt(command: str) -> None:
        raise KeyboardInterrupt

    children = []

    def launch(candidate: Candidate) -> LocalChild:
        children.append(LocalChild(interrupt))
        return children[-1]

    with pytest.raises(KeyboardInterrupt):
        measure([scripted_candidate("a", [MS])], QUICK, launch=launch, readers=())
    assert all(child.closed for child in children)


def test_progress_tells_phases_in_order_and_ends_at_one() -> None:
    told: list[Progress] = []
    settings = Settings(min_duration_s=0.2, min_queries=4, min_rounds=4, pilot_rounds=4, warmup_cap_s=1)
    run(scripted_candidate("a", [MS]), scripted_candidate("b", [MS]), settings=settings, progress=told.append)
    phases = [progress.phase for progress in told]
    assert phases == sorted(phases, key=["load", "warm-up", "pilot", "measure"].index)
    assert told[-1].phase == "measure"
    assert told[-1].done == 1
    assert [running.median_ns for running in told[-1].running] == [MS, MS]
    assert all(0 <= progress.done <= 1 for progress in told)


@pytest.mark.parametrize(
    "write, said",
    [
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"no numpy file"), "cannot be read"),
        (lambda path: np.save(path, np.zeros((2, 3, 2, 2))), "must hold float32 images"),
        (lambda path: np.save(path, np.zeros((0, 3, 2, 2), dtype=np.float32)), "M of at least 1"),
        (
            lambda path: np.save(path, np.zeros((2, 3, 4, 4), dtype=np.float32)),
            "images are 3 x 4 x 4, the graph takes 3 x 2 x 2",
        ),
    ],
)
def test_an_images_file_that_does_not_fit_is_refused(tmp_path: Path, write: object, said: str) -> None:
    path = tmp_path / "images.npy"
    write(path)  # type: ignore[operator]
    with pytest.raises(InputError, match=said):
        run(Candidate(name="a", factory="scripted:make", arguments={"latencies_ns": [MS]}, images=path))


def test_candidates_with_different_numbers_of_images_are_refused(tmp_path: Path) -> None:
    first = images_file(tmp_path, [1, 2])
    (tmp_path / "b").mkdir()
    second = images_file(tmp_path / "b", [1, 2, 3])
    arguments = {"latencies_ns": [MS]}
    with pytest.raises(InputError, match="different numbers of images"):
        run(
            Candidate(name="a", factory="scripted:make", arguments=arguments, images=first),
            Candidate(name="b", factory="scripted:make", arguments=arguments, images=second),
        )


def test_what_a_measurement_depends_on_stands_in_it() -> None:
    measurement = run(scripted_candidate("a", [MS]), command_line=["edgevit", "bench", "a"])
    loaded = measurement.results[0].loaded
    assert loaded is not None
    assert loaded.facts["runtime"] == "scripted"
    assert loaded.libraries["numpy"] == np.__version__
    assert measurement.command_line == ("edgevit", "bench", "a")
    assert measurement.machine["cpus"]
    assert measurement.settings == QUICK
    assert CLOCK.time_ns > 0
