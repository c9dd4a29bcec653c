"""`edgevit bench`: what is asked of the harness, and how its answer is shown."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from edgevit import api
from edgevit.benchmarks import LoadgenCheck, RatioInterval, measurement_from_json, report_schema
from edgevit.benchmarks.child import Failure
from edgevit.benchmarks.loadgen_check import Agreement

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
        (["--runtime", "null", "--runtime", "tensorflow"], "unknown runtime 'tensorflow'"),
        (["--runtime", "null", "--runtime", "null"], "--runtime null is given twice"),
        (["--percentile", "0"], "--percentile is 0; wanted above 0"),
        (["--iterations", "0"], "--iterations is 0"),
        (["--warmup", "-1"], "--warmup is -1"),
        (["--poisson"], "--poisson is for --scenario paced"),
        (["--samples-per-query", "4"], "--samples-per-query is for --scenario multi-stream"),
        (["--scenario", "offline", "--check-loadgen"], "--check-loadgen measures single-stream"),
        (["--trigger-file", "none"], "trigger file 'none' cannot be read"),
        (["--data", "."], "holds no image"),
        (["--max-slowdown", "5%"], "--max-slowdown is for --baseline"),
        (["--force"], "--force is for --baseline"),
    ],
)
def test_a_measurement_that_makes_no_sense_is_one_line(edgevit, bundle, arguments, problem, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    outcome = edgevit("bench", bundle, *arguments)
    assert outcome.status == 2
    assert problem in outcome.error


def test_recorded_triggers_pace_the_queries(edgevit, asked, bundle, tmp_path):
    (tmp_path / "triggers").write_text("5\n6.5\n9\n")
    outcome = edgevit("bench", bundle, "--scenario", "paced", "--trigger-file", tmp_path / "triggers")
    assert outcome.status == 0, outcome.err
    assert (asked[0]["arrivals"], asked[0]["trigger_gaps_ms"]) == ("trigger", (1.5, 2.5))
    assert "% of the period; " in outcome.out
    both = edgevit("bench", bundle, "--scenario", "paced", "--trigger-file", tmp_path / "triggers", "--poisson")
    assert "both say when queries come" in both.error


def test_queries_that_come_faster_than_they_are_served_are_said_to_fall_behind(edgevit, asked, bundle):
    outcome = edgevit("bench", bundle, "--scenario", "paced", "--period-ms", "0.0001")
    assert outcome.status == 0, outcome.err
    assert "queries started over 1 ms late" in outcome.out or "overloaded topk" in outcome.out


def test_a_profile_is_shown_by_operator_and_block_and_is_in_the_json(edgevit, asked, make_bundle):
    outcome = edgevit("bench", make_bundle("topk"), "--profile", "--runtime", "ort", "--runtime", "null")
    assert outcome.status == 0, outcome.err
    assert asked[0]["profile_queries"] == 20
    assert "topk @ ort: milliseconds of a profiled query" in outcome.out
    assert "ReduceMean" in outcome.out
    assert "no profile topk @ null: the null runner does not time its layers" in outcome.out
    with_layers, without = edgevit("bench", make_bundle("b"), "--profile", "--runtime", "ort", "--runtime", "null",
                                   "--json").json["profiles"]  # fmt: skip
    assert [group["name"] for group in with_layers["by_operator"]] == ["ReduceMean"]
    assert with_layers["layers"][0]["median_ns"] >= 0
    assert without["layers"] == [] and "does not time its layers" in without["absence"]


def test_images_that_all_cost_the_same_have_no_worst_among_them(edgevit, asked, bundle, pictures):
    outcome = edgevit("bench", bundle, "--data", pictures)
    assert "topk: every image costs the same number of tokens, 5: each is the worst case" in outcome.out


@pytest.fixture
def adaptive(tmp_path):
    pytest.importorskip("onnx", reason="the graph is built with onnx")
    sys.path.insert(0, str(Path(__file__).parents[2] / "simulated"))
    from capped_bundle import write_capped

    return write_capped(tmp_path / "adaptive").path


def test_the_worst_case_takes_every_token_and_stands_beside_what_images_cost(edgevit, asked, adaptive, pictures):
    command = ["bench", adaptive, "--worst-case", "--data", pictures]
    summary = edgevit(*command, "--json").json
    usual, worst = summary["candidates"]
    assert (usual["name"], usual["worst_case_of"]) == ("adaptive", None)
    assert (worst["name"], worst["worst_case_of"]) == ("adaptive (worst case)", "adaptive")
    assert worst["images"]["active_tokens_range"] == [18, 18], "six tokens at each of three steps"
    assert usual["images"]["active_tokens_range"][1] < 18
    assert [one["candidate"] for one in summary["comparisons"]] == ["adaptive (worst case)"]
    assert "adaptive (worst case): every step at its fullest, whatever the image" in edgevit(*command).out


def test_only_bundles_whose_cost_varies_have_a_worst_case(edgevit, asked, adaptive, bundle):
    outcome = edgevit("bench", bundle, adaptive, "--worst-case", "--json")
    assert [one["name"] for one in outcome.json["candidates"]] == ["topk", "adaptive", "adaptive (worst case)"]
    outcome = edgevit("bench", bundle, "--worst-case")
    assert (outcome.status, outcome.error) == (
        2, "every picture costs what the worst does, since no bundle is adaptive; ask for no worst case",
    )  # fmt: skip


def test_a_worst_case_that_a_runtime_cannot_be_brought_to_is_refused_before_measuring(edgevit, asked, adaptive):
    outcome = edgevit("bench", adaptive, "--worst-case", "--runtime", "null")
    assert outcome.status == 2
    assert outcome.error.endswith("its worst case can be forced on runtime ort and not on null; name that one")


def test_a_baseline_may_have_a_worst_case(edgevit, asked, adaptive, tmp_path):
    report = tmp_path / "base.json"
    assert edgevit("bench", adaptive, "--worst-case", "--output", report).status == 0
    outcome = edgevit("bench", adaptive, "--worst-case", "--baseline", report, "--max-slowdown", "1000%", "--json")
    assert [gate["candidate"] for gate in outcome.json["gates"]] == ["adaptive", "adaptive (worst case)"]


def loadgen_that_sees(ratio, low, high):
    interval = RatioInterval(ratio, low, high, 0.95)
    agrees = low <= 1 <= high
    return (LoadgenCheck("topk", 64, 10, (Agreement(90.0, 1e6 * ratio, 1e6, interval, agrees),)),)


@pytest.mark.parametrize("seen, status", [((1.01, 0.98, 1.04), 0), ((1.2, 1.1, 1.3), 1)])
def test_loadgen_is_shown_beside_and_disagreeing_fails(edgevit, asked, monkeypatch, bundle, seen, status):
    pytest.importorskip("mlperf_loadgen", reason="loadgen is not installed")
    monkeypatch.setattr(api, "check_loadgen", lambda *_, **__: loadgen_that_sees(*seen))
    outcome = edgevit("bench", bundle, "--check-loadgen")
    assert outcome.status == status, outcome.err
    assert "MLPerf's loadgen in turn with the harness, 10 rounds of 64 queries" in outcome.out
    assert ("p90 is 1.200 times loadgen's" in outcome.err) == (status == 1)


def test_an_interrupt_of_loadgen_loses_nothing_that_was_measured(edgevit, asked, monkeypatch, bundle, tmp_path):
    pytest.importorskip("mlperf_loadgen", reason="loadgen is not installed")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "check_loadgen", interrupted)
    outcome = edgevit("bench", bundle, "--check-loadgen", "--output", tmp_path / "r.json", "--json")
    assert outcome.status == 1
    assert "interrupted while loadgen ran" in outcome.err
    assert measurement_from_json((tmp_path / "r.json").read_bytes(), "r.json").ended == "complete"
    assert outcome.json["candidates"][0]["queries"] >= 4


@pytest.mark.parametrize("library, option", [("plotly", ["--html", "r.html"]), ("mlperf_loadgen", ["--check-loadgen"])])
def test_what_a_library_is_missing_for_is_refused_before_measuring(edgevit, monkeypatch, bundle, library, option):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr(api, "measure", None)
    outcome = edgevit("bench", bundle, *option)
    assert outcome.status == 2
    assert "edgevit[bench]" in outcome.error or "is built for x86_64" in outcome.error


def test_the_schema_is_printed_without_a_bundle(edgevit):
    outcome = edgevit("bench", "--schema")
    assert outcome.status == 0
    assert outcome.json == report_schema()


def test_without_a_bundle_the_line_says_what_to_give(edgevit):
    assert "missing argument 'BUNDLE'" in edgevit("bench").error


def test_the_json_of_a_run_is_finite(edgevit, asked, bundle):
    def refuse(constant):
        raise AssertionError(constant)

    json.loads(edgevit("bench", bundle, "--json").out, parse_constant=refuse)
