from __future__ import annotations

import json

import numpy as np
import pytest
from scripted import launch_locally, scripted_candidate

from edgevit.benchmarks import Measurement, Settings, measure, measurement_from_json, measurement_to_json
from edgevit.benchmarks._codec import to_plain
from edgevit.errors import InputError

MS = 1_000_000


@pytest.fixture(scope="module")
def measurement() -> Measurement:
    settings = Settings(min_duration_s=0.2, min_queries=4, min_rounds=4, pilot_rounds=4, warmup_cap_s=1, block_s=0.05)
    candidates = [
        scripted_candidate("a", [3 * MS], steps=2),
        scripted_candidate("b", [2 * MS]),
        scripted_candidate("bad", [MS], misbehave="raise", at_call=1),
    ]
    return measure(candidates, settings, launch=launch_locally, readers=(), command_line=["edgevit", "bench"])


def test_a_report_brings_back_everything(measurement: Measurement) -> None:
    content = measurement_to_json(measurement)
    back = measurement_from_json(content, "r.json")
    assert to_plain(back) == to_plain(measurement)
    assert isinstance(back.settings.percentiles, tuple)
    assert back.results[0].measured.latency_ns.dtype == np.int64
    assert back.results[2].failure == measurement.results[2].failure
    assert json.loads(measurement_to_json(back)) == json.loads(content)


def test_a_report_describes_itself(measurement: Measurement) -> None:
    document = json.loads(measurement_to_json(measurement))
    assert document["format"] == "edgevit-measurement"
    assert document["schema_version"] == 1
    assert document["units"]["*_ns"].startswith("nanoseconds")
    assert document["summary"]["candidates"][0]["median_ns"] == 3 * MS


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "'r.json' is not JSON"),
        (b"[1]", "'r.json' is not a measurement"),
        (b'{"format": "other"}', "'r.json' is not a measurement"),
        (b'{"format": "edgevit-measurement", "schema_version": 2}', "has schema version 2 and this edgevit reads 1"),
        (b'{"format": "edgevit-measurement", "schema_version": 1}', "measurement is None; wanted an object"),
    ],
)
def test_another_file_is_refused_in_one_line(content: bytes, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        measurement_from_json(content, "r.json")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "path, value, said",
    [
        (["settings", "seed"], "x", "measurement.settings.seed is x; wanted a value of type int"),
        (["settings", "seed"], True, "measurement.settings.seed is True; wanted a value of type int"),
        (["settings", "extra"], 1, "an object without the key 'extra'"),
        (["results", 0, "measured", "end_ns"], ["x"], "results[0].measured.end_ns is ['x']; wanted a list of numbers"),
        (["results", 0, "measured", "batches"], [[1], [1, 2]], "wanted a list of numbers"),
        (["ended"], "well", "measurement.ended is well; wanted one of complete, interrupted"),
        (["settings", "cpus"], [0.5], "settings.cpus[0] is 0.5; wanted a value of type int"),
    ],
)
def test_a_damaged_report_is_refused_with_the_place(
    measurement: Measurement, path: list[str | int], value: object, said: str
) -> None:
    document = json.loads(measurement_to_json(measurement))
    place = document["measurement"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(InputError) as refusal:
        measurement_from_json(json.dumps(document).encode(), "r.json")
    assert said in str(refusal.value)


def test_a_report_with_a_missing_key_is_refused(measurement: Measurement) -> None:
    document = json.loads(measurement_to_json(measurement))
    del document["measurement"]["settings"]["seed"]
    with pytest.raises(InputError, match="an object with the key 'seed'"):
        measurement_from_json(json.dumps(document).encode(), "r.json")
