from __future__ import annotations

import numpy as np
import pytest
from scripted import LocalChild, scripted_candidate

from edgevit.benchmarks import Candidate, Settings
from edgevit.benchmarks._loadgen import percentiles_of_summary, run_single_stream
from edgevit.benchmarks.loadgen_check import check_loadgen
from edgevit.benchmarks.order_statistics import early_stopping_estimate
from edgevit.errors import CheckFailed, InputError, MissingExtra

MS = 1_000_000
SHORT = Settings(min_duration_s=0.2, warmup_cap_s=1)


class ChildWithLoadgen(LocalChild):
    """Answers for loadgen with figures that differ from the harness's by a factor."""

    factor = 1.0

    def ask(self, message: dict[str, object], arrays: object = None, *, timeout_s: float) -> object:  # type: ignore[override]
        if message["command"] == "loadgen":
            return {"percentiles": {"50.00": MS * self.factor, "90.00": 2 * MS * self.factor}}, {}
        return super().ask(message, arrays, timeout_s=timeout_s)  # type: ignore[arg-type]


def launcher(factor: float) -> object:
    def launch(candidate: Candidate) -> LocalChild:
        child = ChildWithLoadgen()
        child.factor = factor
        return child

    return launch


LATENCIES = [MS] * 8 + [2 * MS] * 2


def test_two_harnesses_that_see_the_same_agree() -> None:
    check = check_loadgen([scripted_candidate("a", LATENCIES)], SHORT, rounds=4, launch=launcher(1.0))[0]  # type: ignore[arg-type]
    assert [(a.percentile, a.harness_ns, a.loadgen_ns, a.agrees) for a in check.agreements] == [
        (50, MS, MS, True),
        (90, 2 * MS, 2 * MS, True),
    ]
    assert check.queries_per_round == 64


def test_two_harnesses_that_differ_by_more_than_three_per_cent_do_not() -> None:
    check = check_loadgen([scripted_candidate("a", LATENCIES)], SHORT, rounds=4, launch=launcher(1.04))[0]  # type: ignore[arg-type]
    assert [agreement.agrees for agreement in check.agreements] == [False, False]
    close = check_loadgen([scripted_candidate("a", LATENCIES)], SHORT, rounds=4, launch=launcher(1.02))[0]  # type: ignore[arg-type]
    assert all(agreement.agrees for agreement in close.agreements)


def test_another_scenario_is_refused() -> None:
    with pytest.raises(InputError, match="checked in single-stream, not in offline"):
        check_loadgen([scripted_candidate("a", [MS])], Settings(scenario="offline"))


def test_a_candidate_that_fails_fails_the_check() -> None:
    bad = scripted_candidate("a", [MS], misbehave="raise", at_call=3)
    with pytest.raises(CheckFailed, match="a: ValueError"):
        check_loadgen([bad], SHORT, launch=launcher(1.0))  # type: ignore[arg-type]


def test_loadgens_summary_is_read() -> None:
    summary = (
        "90.0th percentile latency (ns) : 7\n50.00 percentile latency (ns)   : 5\n99.90 percentile latency (ns)   : 9\n"
    )
    assert percentiles_of_summary(summary) == {"50.00": 5, "99.90": 9}
    with pytest.raises(InputError, match="lists no percentiles"):
        percentiles_of_summary("nothing")


def test_without_loadgen_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlperf_loadgen", None)
    with pytest.raises(MissingExtra, match=r"pip install 'edgevit\[bench\]'"):
        run_single_stream(lambda _: None, [np.zeros(1)], 1, 0)


def test_loadgen_itself_issues_each_query_and_passes_a_failure_on() -> None:
    pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen is not installed")
    seen = []
    batches = [np.full(1, index) for index in range(4)]
    percentiles = run_single_stream(lambda batch: seen.append(int(batch[0])), batches, 70, seed=1)
    assert len(seen) == 70
    assert set(seen) == {0, 1, 2, 3}
    assert percentiles["50.00"] <= percentiles["90.00"]

    def fail(batch: np.ndarray) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run_single_stream(fail, batches, 3, seed=1)


def test_the_early_stopping_estimate_drops_as_many_as_loadgen_does() -> None:
    # What mlcommons-loadgen 6.0 prints for 100 queries: "Would discard 2 highest latency queries".
    assert early_stopping_estimate(np.arange(100), 90) == 97
