"""`edgevit bench`: what is asked of the harness, and how its answer is shown."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from edgevit import api
from edgevit.benchmarks import measurement_from_json
from edgevit.benchmarks.child import Failure

QUICK = {
    "warmup_cap_s": 0.01,
    "min_duration_s": 0.001,
    "min_queries": 4,
    "min_rounds": 2,
    "block_s": 0.001,
    "pilot_rounds": 2,
    "telemetry_interval_s": 0.0,
}


@pytest.fixture
def asked(monkeypatch):
    """What the command asks of the API; the harness answers after a few queries."""
    calls = []
    measure = api.measure

    def quick(bundles, **options):
        calls.append({"bundles": bundles, **options})
        return measure(bundles, **options | QUICK)

    monkeypatch.setattr(api, "measure", quick)
    return calls


def test_bundles_are_compared_with_the_first(edgevit, asked, make_bundle, tmp_path):
    report = tmp_path / "report.json"
    outcome = edgevit("bench", make_bundle("dense", routed=False), make_bundle("topk"), "--output", report)
    assert outcome.status == 0, outcome.err
    assert "milliseconds a query, ratio to dense" in outcome.out
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["dense", "topk"] == [line[0] for line in lines[2:4]]
    assert "dense against itself:" in outcome.out
    measurement = measurement_from_json(report.read_bytes(), "report.json")
    assert [result.candidate.name for result in measurement.results] == ["dense", "topk"]


def test_options_become_settings_and_the_rest_keeps_its_default(edgevit, asked, bundle, pictures):
    outcome = edgevit(
        "bench", bundle, "--runtime", "ort", "--runtime", "null", "--data", pictures, "--threads", "1",
        "--duration", "3", "--iterations", "7", "--warmup", "2", "--percentile", "50", "--percentile", "95",
        "--deadline-ms", "1000", "--seed", "5", "--cpus", "0", "--json",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    (call,) = asked
    wanted = {
        "bundles": [bundle], "runtimes": ["ort", "null"], "data": pictures, "threads": 1, "min_duration_s": 3.0,
        "min_queries": 7, "warmup_cap_s": 2.0, "percentiles": (50.0, 95.0), "deadline_ms": 1000.0, "seed": 5,
        "cpus": (0,),
    }  # fmt: skip
    assert {name: call[name] for name in wanted} == wanted
    assert call.keys().isdisjoint({"scenario", "period_ms", "arrivals"})
    summary = outcome.json
    assert [candidate["name"] for candidate in summary["candidates"]] == ["topk @ ort", "topk @ null"]
    assert [comparison["candidate"] for comparison in summary["comparisons"]] == ["topk @ null"]


def test_images_reach_every_candidate_as_its_own_preprocessing_makes_them(make_bundle, pictures):
    measurement = api.measure([make_bundle()], data=pictures, **QUICK)
    (result,) = measurement.results
    assert result.loaded.images == 6
    assert measurement.image_names == tuple(str(path) for path in sorted(pictures.rglob("*.png")))
    np.testing.assert_array_equal(result.counts, [[4, 1]] * 6)


def test_bundles_of_one_name_are_called_by_their_paths(make_bundle, tmp_path):
    paths = [make_bundle("a/topk"), make_bundle("b/topk")]
    measurement = api.measure(paths, **QUICK)
    assert [result.candidate.name for result in measurement.results] == [str(path) for path in paths]


def test_a_bundle_against_itself_is_numbered(bundle):
    measurement = api.measure([bundle, bundle], **QUICK)
    assert [result.candidate.name for result in measurement.results] == [str(bundle), f"{bundle} #2"]


def test_a_candidate_that_fails_is_an_error_and_the_others_are_shown(edgevit, monkeypatch, make_bundle):
    measurement = api.measure([make_bundle("dense", routed=False), make_bundle("topk")], **QUICK)
    failed = dataclasses.replace(measurement.results[1], failure=Failure("died", "killed by signal 9"))
    broken = dataclasses.replace(measurement, results=(measurement.results[0], failed))
    monkeypatch.setattr(api, "measure", lambda *_, **__: broken)
    outcome = edgevit("bench", "dense", "topk")
    assert outcome.status == 1
    assert outcome.error == "topk: killed by signal 9"
    assert "dense" in outcome.out


def test_an_interrupted_run_is_shown_and_not_taken_for_whole(edgevit, monkeypatch, bundle):
    measurement = dataclasses.replace(api.measure([bundle], **QUICK), ended="interrupted")
    monkeypatch.setattr(api, "measure", lambda *_, **__: measurement)
    outcome = edgevit("bench", bundle, "--json")
    assert outcome.status == 1
    assert "interrupted" in outcome.error
    assert outcome.json["candidates"][0]["name"] == "topk"


def test_being_strict_turns_a_check_into_an_error(edgevit, asked, bundle):
    assert edgevit("bench", bundle).status == 0
    outcome = edgevit("bench", bundle, "--strict")
    assert outcome.status == 1
    assert "--strict" in outcome.error
    assert "too-few-samples" in outcome.out


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["--percentile", "100"], "--percentile is 100"),
        (["--period-ms", "5"], "period"),
        (["--scenario", "paced", "--poisson"], "needs --period-ms"),
        (["--cpus", "all"], "--cpus all: wanted numbers"),
        (["--scenario", "server"], "invalid value for '--scenario'"),
        (["--duration", "0"], "--duration is 0"),
        (["--runtime", "tensorflow"], "unknown runtime 'tensorflow'"),
    ],
)
def test_a_measurement_that_makes_no_sense_is_one_line(edgevit, bundle, arguments, problem):
    outcome = edgevit("bench", bundle, *arguments)
    assert outcome.status == 2
    assert problem in outcome.error


def test_a_report_that_cannot_be_written_is_one_line(edgevit, asked, bundle, tmp_path):
    outcome = edgevit("bench", bundle, "--output", tmp_path / "none" / "report.json")
    assert outcome.status == 2
    assert "there is no folder" in outcome.error


def test_the_json_of_a_run_is_finite(edgevit, asked, bundle):
    def refuse(constant):
        raise AssertionError(constant)

    json.loads(edgevit("bench", bundle, "--json").out, parse_constant=refuse)
