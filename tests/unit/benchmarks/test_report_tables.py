from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
from by_hand import measurement, result, samples

from edgevit.benchmarks import Settings
from edgevit.benchmarks._words import duration, span
from edgevit.benchmarks.order_statistics import Interval
from edgevit.benchmarks.report_tables import COLUMNS, measurement_to_csv, measurement_to_markdown


def test_csv_has_a_row_for_every_query_of_every_phase() -> None:
    measured = samples([1.0, 2.0, 3.0], batches=[2, 0, 1])
    one = result(measured, name="a, b", images=3, counts=[[4, 1], [4, 2], [4, 3]])
    content = measurement_to_csv(replace(measurement(one), image_names=("x", "y", 'z "1"'))).decode()
    rows = list(csv.DictReader(io.StringIO(content)))
    assert tuple(rows[0]) == COLUMNS
    assert [row["phase"] for row in rows] == ["warm-up"] * 3 + ["measured"] * 3
    assert [row["image"] for row in rows[3:]] == ['z "1"', "x", "y"]
    assert [int(row["latency_ns"]) for row in rows[3:]] == [1_000_000, 2_000_000, 3_000_000]
    assert [row["active_patches"] for row in rows[3:]] == ["7", "5", "6"]
    assert {row["candidate"] for row in rows} == {"a, b"}


def test_csv_of_noise_names_no_image() -> None:
    rows = list(csv.DictReader(io.StringIO(measurement_to_csv(measurement(result(samples([1.0] * 3)))).decode())))
    assert {row["image"] for row in rows} == {""}


def test_markdown_tells_figures_ratio_and_checks() -> None:
    rng = np.random.default_rng(0)
    a = result(samples(10 * rng.lognormal(0, 0.01, 200)), name="dense")
    b = result(samples(5 * rng.lognormal(0, 0.01, 200)), name="to|pk")
    text = measurement_to_markdown(measurement(a, b, settings=Settings(percentiles=(50.0, 99.0), deadline_ms=6.0)))
    assert "| dense | 200 | 10.0 ms |" in text or "| dense | 200 | 9.99 ms |" in text
    assert "needs 662 queries, has 200" in text
    assert "to\\|pk takes 0." in text
    assert "): faster" in text
    assert "dense missed 200 of 200 deadlines of 6 ms (98.17 % to 100.00 %)" in text
    assert "**too-few-samples**" in text


def test_a_candidate_without_samples_has_dashes() -> None:
    text = measurement_to_markdown(measurement(result(samples([]))))
    assert "| a | 0 | - | - |" in text


def test_durations_have_three_digits_and_the_unit_that_fits() -> None:
    assert [duration(ns) for ns in (None, 0, 12, 999, 1234, 12_345, 9_876_543, 123_456_789, 2.5e9)] == [
        "-",
        "0 ns",
        "12.0 ns",
        "999 ns",
        "1.23 µs",
        "12.3 µs",
        "9.88 ms",
        "123 ms",
        "2.50 s",
    ]
    assert duration(4_567_800_000_000) == "4568 s"


def test_an_interval_has_a_digit_more_and_a_question_mark_for_what_is_not_known() -> None:
    assert span(Interval(12_345_678, 12_399_999, 0.95, 0.96)) == "12.35 ms to 12.40 ms"
    assert span(Interval(12_345_678, None, 0.95, 0.96)) == "12.35 ms to ?"
    assert span(None) == "-"
