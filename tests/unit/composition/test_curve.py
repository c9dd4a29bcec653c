from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "simulated"))
pytest.importorskip("onnx", reason="the graph is built with onnx")
pytest.importorskip("onnxruntime", reason="the runtime that is measured")

from capped_bundle import TOKENS, write_capped

import edgevit.benchmarks
from edgevit.bundle import Bundle, device_dir
from edgevit.curve import cap_settings, measure_curve
from edgevit.curve_record import read_curve
from edgevit.errors import CheckFailed, InputError
from edgevit.machine import this_machine
from edgevit.runtimes.session import load
from edgevit.spec import RoutingSpec


def routing(*budgets: tuple[int, ...]) -> RoutingSpec:
    return RoutingSpec(
        mode="adaptive", router="expert_choice", selection="threshold", steps=1 + len(budgets), grid=(2, 3),
        thresholds=(0.0,) * len(budgets), budgets=budgets,
    )  # fmt: skip


def test_a_later_step_needs_no_rung_beyond_the_first_that_holds_what_is_left():
    assert cap_settings(routing((0, 2, 6), (0, 2, 6))) == [(0, 0), (2, 0), (2, 2), (6, 0), (6, 2), (6, 6)]
    assert cap_settings(routing((0, 2, 6), (1, 3, 6))) == [(0, 1), (2, 1), (2, 3), (6, 1), (6, 3), (6, 6)]
    assert cap_settings(routing((6,), (0, 6))) == [(6, 0), (6, 6)]
    assert cap_settings(routing((6,))) == [(6,)]


def test_every_rung_that_nested_steps_can_be_in_is_covered():
    ladders = ((0, 1, 6), (0, 2, 4, 6), (1, 6))
    found = {tuple(rung(min(caps[: r + 1]), ladders[r]) for r in range(3)) for caps in cap_settings(routing(*ladders))}
    counts = [c for c in itertools.product(range(7), repeat=3) if c[0] >= c[1] >= c[2]]
    capped = {tuple(rung(n, ladder) for n, ladder in zip(c, ladders, strict=True)) for c in counts}
    assert found <= capped and (6, 6, 6) in found


def rung(tokens: int, ladder: tuple[int, ...]) -> int:
    return min(k for k in ladder if k >= tokens)


def test_very_many_choices_are_thinned_and_the_ends_stay():
    settings = cap_settings(routing(*[(0, 1, 2, 3, 4, 5, 6)] * 4), most=10)
    assert len(set(settings)) == 10
    assert settings[0] == (0,) * 4 and settings[-1] == (6,) * 4
    assert settings == sorted(settings, key=sum)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_capped(tmp_path / "adaptive")


class Harness:
    """In the place of `benchmarks.measure`: runs each candidate's factory once and makes its times up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups: list[list[list[int]]] = []
        self.ended = "complete"
        self.failure: object = None
        self.counts_off_by = 0
        self.images: list[np.ndarray] = []
        self.checks: list[SimpleNamespace] = []
        monkeypatch.setattr(edgevit.benchmarks, "measure", self)
        monkeypatch.setattr(edgevit.benchmarks, "summarise", lambda _: SimpleNamespace(checks=self.checks))

    def __call__(self, candidates, settings):
        settings.validate()
        self.groups.append([candidate.arguments["caps"] for candidate in candidates])
        return SimpleNamespace(ended=self.ended, results=tuple(self._result(one, settings) for one in candidates))

    def _result(self, candidate, settings):
        from edgevit.runtimes.deadline import open_forced

        images = np.load(candidate.images)
        self.images.append(images)
        with open_forced(**candidate.arguments) as runner:
            counts = np.concatenate([runner(image[None])["counts"] for image in images])
        total = 1000 * (1 + sum(candidate.arguments["caps"]))
        return SimpleNamespace(
            candidate=candidate,
            failure=self.failure,
            counts=counts.astype(np.int64) + self.counts_off_by,
            lead_in=SimpleNamespace(latency_ns=np.array([total + 500])),
            measured=SimpleNamespace(latency_ns=np.full(settings.min_queries, total)),
        )


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(monkeypatch)


def test_every_choice_is_measured_and_kept_beside_the_bundle(bundle, harness):
    told: list[float] = []
    curve = measure_curve(bundle.path, threads=1, runs=40, report=told.append)
    assert read_curve(bundle, "ort", 1) == curve
    assert [point.caps for point in curve.points] == [(0, 0), (2, 0), (2, 2), (6, 0), (6, 2), (6, 6)]
    assert [len(group) for group in harness.groups] == [4, 2]
    assert told == pytest.approx([4 / 7, 6 / 7])
    full = curve.points[-1].durations
    assert (full.runs, full.p50_ns, full.max_ns) == (41, 13_000, 13_500), "what opens a block counts"
    assert (curve.threads, curve.machine, curve.around_of) == ("1", this_machine(), "arrays of the input's size")
    assert curve.around.runs == 40 and curve.around.max_ns > 0


def test_other_work_while_budgets_were_timed_is_said(bundle, harness):
    harness.checks = [
        SimpleNamespace(name="too-few-samples", finding="p99 needs more"),
        SimpleNamespace(name="busy-machine", finding="other work kept 1.20 of 2 CPUs busy"),
    ]
    said: list[str] = []
    measure_curve(bundle.path, runs=40, note=said.append)
    (line,) = said
    assert line.startswith("other work kept 1.20 of 2 CPUs busy while budgets were timed")


def test_pictures_are_timed_where_they_are_given(bundle, harness, tmp_path):
    folder = tmp_path / "line 3"
    folder.mkdir()
    for level in (0, 255):
        Image.fromarray(np.full((20, 30, 3), level, np.uint8)).save(folder / f"{level}.png")
    curve = measure_curve(bundle.path, data=folder, runs=20)
    assert curve.around_of == "pictures of line 3"
    assert [image.mean() for image in harness.images[0]] == [0, 1]


def test_a_deadline_rests_on_the_curve(bundle, harness):
    measure_curve(bundle.path, runs=20)
    with load(bundle, deadline_ms=60_000) as session:
        assert session.contract.caps == (TOKENS, TOKENS)
        assert 0 < session.contract.bound_ms < 60_000


@pytest.mark.parametrize(
    "fault, says",
    [
        ({"ended": "interrupted"}, "interrupted while budgets were timed; nothing was kept"),
        ({"failure": SimpleNamespace(reason="out of memory")}, "the graph under caps 0, 0 failed: out of memory"),
        ({"counts_off_by": 1}, "took other tokens; export the model again"),
    ],
)
def test_what_went_wrong_is_said_and_nothing_is_kept(bundle, harness, fault, says):
    vars(harness).update(fault)
    with pytest.raises(CheckFailed, match=says):
        measure_curve(bundle.path, runs=20)
    assert not device_dir(bundle).exists()


def test_bad_requests_are_one_line(bundle, tmp_path, harness):
    with pytest.raises(InputError, match="5 runs say nothing of the longest to come"):
        measure_curve(bundle.path, runs=5)
    with pytest.raises(InputError, match="so there are no budgets to choose"):
        measure_curve(write_capped(tmp_path / "mask", mode="mask").path)
    assert harness.groups == []


def test_a_graph_without_caps_is_told_before_anything_is_timed(bundle, harness, tmp_path, monkeypatch):
    from edgevit.runtimes import deadline

    def capless(routing, caps):
        return {"cap[9]": np.array(0)}

    monkeypatch.setattr(deadline, "forcing", capless)
    with pytest.raises(InputError, match=r"the graph has no constant 'cap\[9\]'"):
        measure_curve(bundle.path, runs=20)
    assert harness.groups == []


def test_processes_of_their_own_measure_a_real_graph(tmp_path):
    bundle = write_capped(tmp_path / "adaptive")
    curve = measure_curve(bundle.path, threads=1, runs=20)
    assert len(curve.points) == 6 and min(point.durations.runs for point in curve.points) >= 20
    assert read_curve(bundle, "ort", 1) == curve


def test_the_command_shows_the_curve_and_keeps_it(bundle, harness, edgevit):
    outcome = edgevit("bench", bundle.path, "--curve", "--threads", "1", "--iterations", "25")
    assert outcome.status == 0
    assert (
        "6, 2" in outcome.out
        and "bound" in outcome.out
        and "around the graph (arrays of the input's size)" in outcome.out
    )
    assert "26 runs cover 89.1 %" in outcome.err
    assert read_curve(bundle, "ort", 1).points[-1].caps == (6, 6)


def test_the_command_as_json_has_every_bound(bundle, harness, edgevit):
    outcome = edgevit("bench", bundle.path, "--curve", "--iterations", "25", "--json")
    curve = read_curve(bundle, "ort", None)
    assert outcome.json["bounds_ms"] == [curve.bound_ns(point) / 1e6 for point in curve.points]
    assert [tuple(point["caps"]) for point in outcome.json["curve"]["points"]] == [point.caps for point in curve.points]


@pytest.mark.parametrize(
    "arguments, says",
    [
        ((), "--curve is of one bundle, got 0; give one adaptive bundle"),
        (("B", "B"), "--curve is of one bundle, got 2"),
        (("B", "--runtime", "null"), "--curve on null, whose budgets cannot be set; leave --runtime out"),
        (("B", "--scenario", "offline"), "--curve times the budgets of one bundle; leave --scenario out"),
        (("B", "--iterations", "3"), "3 runs say nothing"),
    ],
)
def test_what_the_command_cannot_do_is_one_line(bundle, harness, edgevit, arguments, says):
    outcome = edgevit("bench", "--curve", *(bundle.path if part == "B" else part for part in arguments))
    assert outcome.status == 2
    assert outcome.error.startswith(says)
    assert harness.groups == []
