"""The files of `edgevit bench`: reports that it writes, stored measurements that it reads."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from edgevit import api
from edgevit.benchmarks import Candidate, CandidateResult, Measurement, Samples, Settings, measurement_to_json
from edgevit.benchmarks.facts import machine_facts


def queries(latency_ns) -> Samples:
    """Queries one after another, four a block."""
    end = np.cumsum(np.asarray(latency_ns, dtype=np.int64))
    start = end - latency_ns
    block = np.arange(len(end)) // 4
    return Samples(
        block=block, batches=np.zeros((len(end), 1), np.int64), intended_ns=start, start_ns=start, end_ns=end
    )


def measurement_of(samples: Samples) -> Measurement:
    """A measurement of one candidate on this machine."""
    result = CandidateResult(
        candidate=Candidate(name="topk", factory="module:function"),
        loaded=None,
        warm_up=None,
        counts=None,
        lead_in=queries([]),
        measured=samples,
        resident_bytes=np.empty(0, np.int64),
        peak_resident_bytes=None,
        failure=None,
    )
    return Measurement(
        settings=Settings(),
        results=(result,),
        orders=(),
        ended="complete",
        pilot=None,
        machine=machine_facts(),
        image_names=(),
        started_at="2026-01-01T00:00:00+00:00",
        elapsed_s=1.0,
    )


@pytest.fixture
def measured(monkeypatch):
    """A measurement of queries of a millisecond; the command gets it whatever it measures."""
    measurement = measurement_of(queries(np.full(80, 1_000_000)))
    monkeypatch.setattr(api, "measure", lambda *_, **__: measurement)
    return measurement


def at_pace(measurement, factor):
    """The same measurement with every query as many times as slow."""
    return dataclasses.replace(
        measurement_of(queries(np.full(80, round(factor * 1_000_000)))), machine=measurement.machine
    )


def store(measurement, path):
    path.write_bytes(measurement_to_json(measurement))
    return path


def test_every_report_is_written_where_it_was_asked_for(edgevit, measured, tmp_path):
    pytest.importorskip("plotly", reason="plotly is not installed")
    files = [tmp_path / name for name in ("r.json", "r.csv", "r.html")]
    options = zip(("--output", "--csv", "--html"), files, strict=True)
    outcome = edgevit("bench", tmp_path / "topk", *(part for pair in options for part in pair))
    assert outcome.status == 0, outcome.err
    assert outcome.err.splitlines() == [
        f"every sample in {files[0]}", f"a row a query in {files[1]}", f"the page in {files[2]}",
    ]  # fmt: skip
    assert files[0].read_bytes() == measurement_to_json(measured)
    assert files[1].read_text().startswith("candidate,phase,block,image,")
    assert files[2].read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    "options, problem",
    [
        (["--output", "none/r.json"], "--output none/r.json: there is no folder none"),
        (["--csv", "."], "--csv .: is a folder"),
        (["--html", "/dev/null"], "--html /dev/null: is no regular file"),
        (["--output", "r", "--csv", "./r"], "is the file of --output too"),
        (["--output", "topk/r.json"], "lies in the bundle"),
        (["--baseline", "old.json", "--output", "old.json"], "is read by this run"),
        (["--data", "pictures", "--html", "pictures/red/1.png"], "would be one of the images of --data"),
    ],
)
def test_a_report_in_the_wrong_place_is_refused_before_measuring(
    edgevit, measured, pictures, tmp_path, monkeypatch, options, problem
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "topk").mkdir()
    store(measured, tmp_path / "old.json")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(api, "measure", None)
    outcome = edgevit("bench", "topk", *options)
    assert outcome.status == 2
    assert problem in outcome.error
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "factor, options, verdict, status",
    [
        (1.04, [], "pass", 0),
        (1.06, [], "regressed", 1),
        (1.06, ["--max-slowdown", "7%"], "pass", 0),
        (1.06, ["--max-slowdown", "7"], "pass", 0),
        (1.06, ["--max-slowdown", "0.5 %"], "regressed", 1),
    ],
)
def test_a_baseline_is_a_gate(edgevit, measured, monkeypatch, tmp_path, factor, options, verdict, status):
    baseline = store(measured, tmp_path / "old.json")
    monkeypatch.setattr(api, "measure", lambda *_, **__: at_pace(measured, factor))
    outcome = edgevit("bench", tmp_path / "topk", "--baseline", baseline, *options)
    assert outcome.status == status, outcome.err
    assert f"topk against the baseline: {verdict} ratio" in outcome.out


def test_an_inconclusive_gate_fails_a_strict_run_alone(edgevit, measured, monkeypatch, tmp_path):
    baseline = store(measured, tmp_path / "old.json")
    # Every other block twice as slow: the ratio's interval holds what is allowed.
    noisy = measurement_of(queries(1_000_000 * (1 + np.arange(80) // 4 % 2)))
    monkeypatch.setattr(api, "measure", lambda *_, **__: noisy)
    arguments = ["bench", tmp_path / "topk", "--baseline", baseline, "--max-slowdown", "40%"]
    assert edgevit(*arguments, "--json").json["gates"][0]["verdict"] == "inconclusive"
    assert edgevit(*arguments).status == 0
    strict = edgevit(*arguments, "--strict")
    assert strict.status == 1
    assert "topk cannot be told from slower than the baseline allows" in strict.error


def damaged(content: bytes, **changes) -> bytes:
    document = json.loads(content)
    return json.dumps({**document, **changes}).encode()


def test_a_baseline_that_is_none_is_refused_before_measuring(edgevit, measured, monkeypatch, tmp_path):
    good = measurement_to_json(measured)
    elsewhere = dataclasses.replace(measured, machine={**measured.machine, "cpu": "another"})
    samples = measured.results[0].measured
    uneven = measurement_of(dataclasses.replace(samples, end_ns=samples.end_ns[:-1]))
    cases = {
        good[:1000]: "is not JSON",
        b"{}": "is not a measurement",
        damaged(good, schema_version=2): "has schema version 2 and this edgevit reads 1",
        damaged(good, measurement={}): "wanted an object with the key",
        damaged(good, measurement=json.loads(good)["measurement"] | {"machine": {}}): "its machine has no cpus",
        _without_summary(uneven): "columns of different lengths",
        measurement_to_json(elsewhere): "--force",
    }
    monkeypatch.setattr(api, "measure", None)
    for content, problem in cases.items():
        (tmp_path / "old.json").write_bytes(content)
        outcome = edgevit("bench", tmp_path / "topk", "--baseline", tmp_path / "old.json")
        assert outcome.status == 2
        assert problem in outcome.error
    for slowdown in ("junk", "-3", "nan", "%"):
        outcome = edgevit("bench", tmp_path / "topk", "--baseline", store(measured, tmp_path / "old.json"),
                          f"--max-slowdown={slowdown}")  # fmt: skip
        assert "wanted per cent, 0 or more, such as 5%" in outcome.error


def _without_summary(measurement) -> bytes:
    """A report whose summary could not have been computed."""
    from edgevit.benchmarks._codec import to_plain

    document = {"format": "edgevit-measurement", "schema_version": 1, "measurement": to_plain(measurement)}
    return json.dumps(document).encode()


def test_another_machines_baseline_is_judged_by_force(edgevit, measured, tmp_path):
    elsewhere = dataclasses.replace(measured, machine={**measured.machine, "cpu": "another"})
    baseline = store(elsewhere, tmp_path / "old.json")
    outcome = edgevit("bench", tmp_path / "topk", "--baseline", baseline, "--force", "--max-slowdown", "50%")
    assert outcome.status == 0, outcome.err
    assert "against the baseline: pass" in outcome.out


def test_two_stored_files_are_compared_with_what_differed(edgevit, measured, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store(measured, tmp_path / "a.json")
    elsewhere = dataclasses.replace(at_pace(measured, 2.0), machine={**measured.machine, "cpu": "another"})
    store(dataclasses.replace(elsewhere, ended="interrupted"), tmp_path / "b.json")
    outcome = edgevit("bench", "--compare", "a.json", "b.json")
    assert outcome.status == 0, outcome.err
    assert "they differ cpu: " in outcome.out
    assert "partial b.json was interrupted" in outcome.out
    result = edgevit("bench", "--compare", "a.json", "b.json", "--json").json
    assert result["comparisons"][0]["interval"]["ratio"] == pytest.approx(2.0)
    assert len(result["differences"]) == 1


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["--compare", "a.json"], "requires 2 arguments"),
        (["--compare", "a.json", "none.json"], "none.json: cannot be read"),
        (["--compare", "a.json", "a.json", "--duration", "3"], "leave --duration out"),
        (["--compare", "a.json", "a.json", "--html", "r.html"], "leave --html out"),
        (["topk", "--compare", "a.json", "a.json"], "leave BUNDLE out"),
    ],
)
def test_a_comparison_of_anything_else_is_one_line(edgevit, measured, tmp_path, monkeypatch, arguments, problem):
    monkeypatch.chdir(tmp_path)
    store(measured, tmp_path / "a.json")
    outcome = edgevit("bench", *arguments)
    assert outcome.status == 2
    assert problem in outcome.error
