from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the graph is built with onnx")
pytest.importorskip("onnxruntime", reason="the runtime that keeps deadlines")

from capped_bundle import RUNGS, TOKENS, write_capped
from staged_bundle import write_staged

from edgevit.bundle import Bundle
from edgevit.curve_record import MARGIN, Curve, Durations, Point, write_curve
from edgevit.errors import InputError
from edgevit.machine import this_machine
from edgevit.runtimes import ort_loading, ort_packed
from edgevit.runtimes.deadline import open_capped, open_forced, promise
from edgevit.runtimes.session import Session, load

MS = 1_000_000


def lasting(ms: float) -> Durations:
    return Durations(runs=300, p50_ns=0, p99_ns=0, max_ns=round(ms * MS))


def with_curve(bundle: Bundle, threads: int | None = None, **changes: object) -> Curve:
    """A curve of 10 ms, one more for each token of a step, and 2 ms around the graph."""
    import onnxruntime

    points = tuple(
        Point(caps=caps, durations=lasting(10 + sum(caps)))
        for caps in itertools.product(RUNGS, RUNGS)
        if caps[1] <= caps[0]
    )
    curve = Curve(
        bundle_digest=bundle.digest,
        runtime="ort",
        library_version=onnxruntime.__version__,
        threads=str(threads or "auto"),
        machine=this_machine(),
        points=points,
        around=lasting(2),
        around_of="arrays",
    )
    curve = replace(curve, **changes)
    write_curve(bundle, curve, threads)
    return curve


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_capped(tmp_path / "adaptive")


def grey(share: float) -> np.ndarray:
    return np.full((8, 8, 3), round(255 * share), np.uint8)


@pytest.mark.parametrize(
    "deadline_ms, caps",
    [
        (MARGIN * 24, (TOKENS, TOKENS)),
        (1e6, (TOKENS, TOKENS)),
        (MARGIN * 24 - 0.01, (TOKENS, 2)),
        (MARGIN * 20, (TOKENS, 2)),
        (MARGIN * 20 - 0.01, (2, 2)),
        (MARGIN * 18 - 0.01, (2, 2)),
        (MARGIN * 12, (0, 0)),
    ],
)
def test_of_the_budgets_within_the_deadline_those_that_leave_the_most_room(bundle, deadline_ms, caps):
    with_curve(bundle)
    contract = promise(bundle, deadline_ms)
    assert contract.caps == caps
    assert contract.bound_ms <= deadline_ms
    assert contract.bound_ms == pytest.approx(MARGIN * (12 + sum(caps)))
    assert contract.covered == pytest.approx(0.99, abs=1e-3)


def test_no_step_is_held_below_the_floor(bundle):
    with_curve(bundle)
    assert promise(bundle, MARGIN * 18).caps == (2, 2), "not all tokens in one step and none in the other"
    assert promise(bundle, MARGIN * 18, min_tokens=1).caps == (2, 2)
    assert promise(bundle, MARGIN * 18, min_tokens=2).caps == (2, 2)
    with pytest.raises(InputError, match=r"missed by 6\.6 ms even with the smallest budget that min_tokens 3 allows"):
        promise(bundle, MARGIN * 18, min_tokens=3)


def test_a_deadline_that_nothing_keeps_says_by_how_much(bundle):
    with_curve(bundle)
    with pytest.raises(InputError) as refusal:
        promise(bundle, 5)
    line = str(refusal.value)
    assert "a deadline of 5 ms is missed by 8.2 ms even with the smallest budget (0, 0 tokens a step: 13.2 ms" in line
    assert "allow 13.2 ms" in line and "\n" not in line


@pytest.mark.parametrize("deadline_ms", [0, -1, float("nan"), float("inf")])
def test_a_deadline_that_is_none_is_refused(bundle, deadline_ms):
    with_curve(bundle)
    with pytest.raises(InputError, match="wanted a number of milliseconds above 0"):
        load(bundle, deadline_ms=deadline_ms)


@pytest.mark.parametrize("min_tokens", [-1, TOKENS + 1])
def test_a_floor_beyond_the_tokens_is_refused(bundle, min_tokens):
    with_curve(bundle)
    with pytest.raises(InputError, match="wanted 0 to 6"):
        load(bundle, deadline_ms=50, min_tokens=min_tokens)


def test_a_floor_without_a_deadline_is_refused(bundle):
    with pytest.raises(InputError, match="min_tokens 3 without a deadline"):
        load(bundle, min_tokens=3)


def test_without_a_curve_the_line_names_the_command(bundle):
    with pytest.raises(InputError, match=r"run: edgevit bench .*/adaptive --curve --threads 3$"):
        load(bundle, deadline_ms=50, threads=3)


def test_a_bundle_of_fixed_time_has_no_budgets_to_choose(tmp_path):
    with pytest.raises(InputError, match="is mask, so there are no budgets to choose"):
        load(write_capped(tmp_path / "mask", mode="mask"), deadline_ms=50)


def test_a_runtime_whose_budgets_cannot_be_set_is_refused(bundle):
    with_curve(bundle)
    with pytest.raises(InputError, match="deadline_ms needs runtime ort, whose budgets can be set, and not null"):
        load(bundle, runtime="null", deadline_ms=50)


@pytest.mark.parametrize("runtime", ["auto", "ort"])
def test_a_session_that_dropped_tokens_says_how_many_and_at_which_step(bundle, runtime):
    with_curve(bundle)
    with load(bundle, runtime=runtime, deadline_ms=MARGIN * 17) as session:
        assert session.contract.caps == (2, 2)
        bright, dim = session.predict([grey(1.0), grey(0.3)])
    assert bright.truncated and bright.tokens_dropped == (0, 4, 0)
    assert bright.routing.counts == (6, 2, 2)
    assert json.loads(json.dumps(bright.to_dict()))["tokens_dropped"] == [0, 4, 0]
    assert not dim.truncated and dim.tokens_dropped == (0, 0, 0)
    assert dim.to_dict()["truncated"] is False


def test_a_session_with_time_enough_answers_as_one_without_a_deadline(bundle):
    with_curve(bundle)
    with load(bundle) as free, load(bundle, deadline_ms=100) as timed:
        assert free.contract is None
        for share in (0, 0.3, 0.6, 1):
            assert free.predict(grey(share)).to_dict() == timed.predict(grey(share)).to_dict()


def test_each_picture_of_a_batch_has_its_own_count(tmp_path):
    bundle = write_capped(tmp_path / "pairs", batch=2)
    with Session(bundle, open_capped(bundle, (2, 0))) as session:
        predictions = session.predict([grey(share) for share in (1, 0.05, 0.8)])
    assert [prediction.tokens_dropped for prediction in predictions] == [(0, 4, 2), (0, 0, 0), (0, 3, 2)]


def test_a_graph_that_cannot_say_what_it_dropped_drops_nothing(tmp_path):
    bundle = write_capped(tmp_path / "silent", trace=False)
    with_curve(bundle)
    with pytest.raises(InputError, match="would drop tokens to keep 18 ms and cannot say so"):
        load(bundle, deadline_ms=18)
    with load(bundle, deadline_ms=100) as session:
        prediction = session.predict(grey(1))
    assert not prediction.truncated and prediction.tokens_dropped == ()


def test_a_curve_of_another_version_is_not_relied_on(bundle):
    with_curve(bundle, library_version="0.1")
    with pytest.raises(InputError, match=r"measured on ort 0\.1 auto threads, this is ort .* run: edgevit bench"):
        load(bundle, deadline_ms=100)


def test_rungs_that_the_bundle_has_not_are_not_taken(bundle):
    with_curve(bundle, points=(Point(caps=(5, 5), durations=lasting(1)),))
    with pytest.raises(InputError, match="its curve has no budgets of 0 tokens or more"):
        promise(bundle, 100)


def test_forcing_takes_so_many_tokens_whatever_the_picture(bundle):
    for caps in ((6, 2), (2, 2), (0, 0), (6, 6)):
        with open_forced(str(bundle.path), list(caps)) as runner:
            counts = runner(np.zeros((1, 3, 8, 8), np.float32))["counts"]
        assert counts.tolist() == [[TOKENS, *caps]]


def test_an_answer_that_is_late_all_the_same_says_so(bundle):
    with_curve(bundle)
    contract = promise(bundle, 100)
    for deadline_ms, late in ((1e-6, True), (1e9, False)):
        runner = open_capped(bundle, contract.caps)
        with Session(bundle, runner, contract=replace(contract, deadline_ms=deadline_ms)) as session:
            assert session.predict(grey(1)).late is late
    with Session(bundle, open_capped(bundle, contract.caps)) as session:
        assert session.predict(grey(1)).late is False


@pytest.mark.parametrize("open_runner", [open_capped, open_forced])
def test_budgets_are_set_in_the_graph_whose_weights_are_mapped(bundle, monkeypatch, open_runner):
    monkeypatch.setattr(ort_loading, "_SMALLEST_BYTES", 0)
    monkeypatch.setattr(ort_packed, "_SMALLEST_BYTES", 8 * TOKENS)  # so that the graph's largest constant is a weight
    for _ in range(2):  # the first packs what the second finds
        with open_runner(bundle, (2, 0)) as runner:
            assert runner.facts["weights"] == ort_loading.MAPPED
            counts = runner(np.ones((1, 3, 8, 8), np.float32))["counts"]
        assert counts.tolist() == [[TOKENS, 2, 0]]


@pytest.mark.parametrize("target", ["cpu-x86", "desktop-gpu"])
def test_a_deadline_for_a_bundle_in_stages_says_what_takes_one_whatever_its_target(tmp_path, target):
    staged = write_staged(tmp_path / "staged", target=target)
    with pytest.raises(InputError, match=r"is adaptive in stages, .* export it again with --target cpu-x86"):
        load(staged, deadline_ms=20)
