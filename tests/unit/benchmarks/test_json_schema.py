from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from by_hand import measurement, result, samples, series

from edgevit.benchmarks import Settings, measurement_to_json
from edgevit.benchmarks.json_schema import report_schema


def report() -> dict[str, object]:
    rng = np.random.default_rng(0)
    measured = samples(rng.lognormal(0, 0.1, 200), batches=rng.integers(0, 4, 200))
    with_images = result(measured, images=4, counts=[[4, 2], [4, 0], [4, 4], [4, 1]], resident_bytes=[1, 2])
    both = measurement(
        with_images,
        result(samples(rng.lognormal(0, 0.1, 200)), name="b"),
        settings=Settings(deadline_ms=1.0),
        telemetry=(series("cpu_others", "share", [0, 1], [0.5, 0.25]),),
    )
    document: dict[str, object] = json.loads(measurement_to_json(both))
    return document


def test_the_schema_is_a_schema_and_a_report_keeps_to_it() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.Draft202012Validator.check_schema(report_schema())
    jsonschema.Draft202012Validator(report_schema()).validate(report())


@pytest.mark.parametrize("path", [("measurement", "settings", "seed"), ("summary", "checks"), ("format",)])
def test_a_report_with_a_missing_key_does_not(path: tuple[str, ...]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    document = report()
    place: dict[str, object] = document
    for step in path[:-1]:
        place = place[step]  # type: ignore[assignment]
    del place[path[-1]]
    assert not jsonschema.Draft202012Validator(report_schema()).is_valid(document)


def test_the_published_schema_is_the_one_that_reports_keep_to() -> None:
    published = Path(__file__).parents[3] / "docs" / "bench-report.schema.json"
    assert json.loads(published.read_text(encoding="utf-8")) == report_schema(), (
        "write it anew: edgevit bench --schema > docs/bench-report.schema.json"
    )


def test_every_part_of_the_schema_says_what_it_is() -> None:
    definitions = report_schema()["$defs"]
    assert {"Measurement", "Samples", "Settings", "Summary", "Percentile", "Telemetry"} <= definitions.keys()
    assert all(definition["description"] for definition in definitions.values())
