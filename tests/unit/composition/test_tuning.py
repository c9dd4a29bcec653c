"""`edgevit bench --autotune`: what is tried, what decides and what is kept. Times are given, never taken."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgevit import tuning
from edgevit.bundle import Bundle
from edgevit.errors import CheckFailed, InputError, MissingExtra
from edgevit.machine import Machine
from edgevit.runtimes import choose
from edgevit.tuning import choices_here, thread_counts, tune
from edgevit.tuning_record import Choice, Ratio, read_tuning, tuning_path
from edgevit.tuning_timer import HarnessTimer, Timed

DEFAULT = Choice(runtime="ort", threads=None)
MACHINE = Machine(architecture="x86_64", cpu="Xeon", features="0" * 16, cpus=2)


class Stopwatch:
    """A timer that answers from a table: the ratio of each choice, in the trial and when it is decided.

    Attributes:
        calls: the choices of each call.
    """

    def __init__(
        self,
        trial: dict[str, float],
        decided: tuple[float, float] = (0.7, 0.9),
        floor: float = 1.02,
        failures: dict[str, str] | None = None,
    ) -> None:
        self.calls: list[tuple[bool, list[str]]] = []
        self._trial = trial
        self._decided = decided
        self._floor = floor
        self._failures = failures or {}

    def __call__(self, choices: Sequence[Choice], *, thorough: bool, tell: Callable[[float], None]) -> list[Timed]:
        self.calls.append((thorough, [str(choice) for choice in choices]))
        tell(1.0)
        return [self._timed(str(choice), thorough, place) for place, choice in enumerate(choices)]

    def _timed(self, name: str, thorough: bool, place: int) -> Timed:
        if name in self._failures:
            return Timed(failure=self._failures[name])
        if place == 0:
            return Timed(median_ms=10.0)
        low, high = self._decided if thorough else (self._trial[name] - 0.1, self._trial[name] + 0.1)
        middle = (low + high) / 2
        return Timed(
            median_ms=10 * middle,
            ratio=Ratio(ratio=middle, low=low, high=high, confidence=0.95),
            verdict=Ratio(ratio=middle, low=low, high=high, confidence=0.99),
            floor=self._floor if thorough else 1.0,
            rounds=50,
        )


TRIAL = {"ort with 1 thread": 1.4, "ort with 2 threads": 1.0, "ov with 1 thread": 0.9, "ov with 2 threads": 0.8}


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch) -> None:
    monkeypatch.setattr(tuning, "this_machine", lambda: MACHINE)


@pytest.fixture
def both(monkeypatch) -> None:
    """Both libraries are here, whether or not they are."""
    monkeypatch.setattr(choose, "_can_import", lambda library: library in ("onnxruntime", "openvino"))


def right(bundle: Bundle, choice: Choice) -> None:
    """Every choice answers as the reference does."""


def test_threads_are_tried_in_powers_of_two_and_all_of_them():
    assert thread_counts(1) == [1]
    assert thread_counts(2) == [1, 2]
    assert thread_counts(6) == [1, 2, 4, 6]
    assert thread_counts(16) == [1, 2, 4, 8, 16]


def test_the_default_is_first_and_each_runtime_that_is_here_is_tried(bundle, both):
    assert list(map(str, choices_here(Bundle.open(bundle)))) == ["ort", *TRIAL]


def test_the_default_is_what_load_takes(make_bundle, monkeypatch, both):
    bundle = Bundle.open(make_bundle(target="openvino"))
    assert choices_here(bundle)[0] == Choice(runtime="ov", threads=None)
    monkeypatch.setattr(choose, "_can_import", lambda library: library == "onnxruntime")
    assert choices_here(bundle)[0] == DEFAULT
    monkeypatch.setattr(choose, "_can_import", lambda library: False)
    with pytest.raises(MissingExtra):
        choices_here(bundle)


def test_the_best_of_the_trial_is_held_against_the_default_alone_and_kept(bundle, both):
    watch = Stopwatch(TRIAL)
    found = tune(bundle, time_choices=watch, answers=right)
    assert watch.calls == [(False, ["ort", *TRIAL]), (True, ["ort", "ov with 2 threads"])]
    assert found.record.winner == Choice(runtime="ov", threads=2)
    assert found.record.images == 2, "the golden samples"
    opened = Bundle.open(bundle)
    assert found.path == tuning_path(opened) and read_tuning(opened) == found.record
    assert found.record.decision is not None and found.record.decision.ratio.confidence == 0.99


@pytest.mark.parametrize("decided, floor", [((0.7, 1.01), 1.0), ((0.9, 0.97), 1.05), ((1.2, 1.3), 1.0)])
def test_the_default_stays_where_the_second_measurement_does_not_confirm_the_first(bundle, both, decided, floor):
    record = tune(bundle, time_choices=Stopwatch(TRIAL, decided, floor), answers=right).record
    assert record.winner == DEFAULT and record.decision is not None


def test_where_nothing_is_faster_in_the_trial_nothing_more_is_measured(bundle, both):
    watch = Stopwatch(dict.fromkeys(TRIAL, 1.1))
    record = tune(bundle, time_choices=watch, answers=right).record
    assert len(watch.calls) == 1 and record.decision is None and record.winner == DEFAULT


def test_a_choice_that_answers_otherwise_is_neither_timed_nor_taken(bundle, both):
    watch = Stopwatch(TRIAL)
    wrong = Choice(runtime="ov", threads=2)
    record = tune(
        bundle, time_choices=watch, answers=lambda _, choice: "answers otherwise" if choice == wrong else None
    ).record
    assert all("ov with 2 threads" not in names for _, names in watch.calls)
    assert record.winner == Choice(runtime="ov", threads=1)
    assert {trial.choice: trial.refused for trial in record.trials}[wrong] == "answers otherwise"


def test_a_choice_that_crashes_is_refused_with_its_reason(bundle, both):
    watch = Stopwatch(TRIAL, failures={"ov with 2 threads": "its process died"})
    record = tune(bundle, time_choices=watch, answers=right).record
    assert record.winner == Choice(runtime="ov", threads=1)
    assert record.trials[-1].refused == "its process died"


def test_a_default_that_answers_otherwise_ends_it(bundle, both):
    with pytest.raises(CheckFailed, match="ort, the default here: wrong; run edgevit verify"):
        tune(bundle, time_choices=Stopwatch(TRIAL), answers=lambda *_: "wrong")
    with pytest.raises(CheckFailed, match="ort, the default here: died"):
        tune(bundle, time_choices=Stopwatch(TRIAL, failures={"ort": "died"}), answers=right)
    assert read_tuning(Bundle.open(bundle)) is None


def test_real_answers_are_held_to_the_golden_samples(make_bundle):
    pytest.importorskip("openvino", reason="both runtimes answer")
    watch = Stopwatch(TRIAL)
    tune(make_bundle(), time_choices=watch)
    assert watch.calls[0][1] == ["ort", *TRIAL]
    with pytest.raises(CheckFailed, match="answers otherwise than the reference"):
        tune(make_bundle("wrong", wrong=True), time_choices=watch)


def test_a_bundle_for_a_gpu_is_refused(make_bundle):
    with pytest.raises(InputError, match="is for target jetson-orin; --autotune is for CPU targets"):
        tune(make_bundle(target="jetson-orin"), time_choices=Stopwatch({}), answers=right)


def test_a_folder_of_images_is_preprocessed_once(bundle, both, pictures, monkeypatch):
    seen = {}

    class Watch(HarnessTimer):
        def __call__(self, choices, *, thorough, tell):
            seen["images"] = np.load(self._images)
            return Stopwatch(TRIAL)(choices, thorough=thorough, tell=tell)

    monkeypatch.setattr(tuning, "HarnessTimer", Watch)
    record = tune(bundle, data=pictures, answers=right).record
    assert record.images == 6
    assert seen["images"].shape == (6, 3, 8, 8) and seen["images"].dtype == np.float32


def test_the_harness_runs_each_choice_in_a_process_of_its_own(bundle, tmp_path, monkeypatch):
    """Really run, as short as can be; how long it took is nobody's business here."""
    from edgevit import tuning_timer
    from edgevit.benchmarks import Settings

    quick = Settings(
        warmup_cap_s=0.01, min_duration_s=0.001, min_queries=4, min_rounds=2, block_s=0.001, pilot_rounds=2,
        telemetry_interval_s=0.0,
    )  # fmt: skip
    monkeypatch.setattr(tuning_timer, "_settings", lambda thorough: quick)
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((2, 3, 8, 8), np.float32))
    timer = HarnessTimer(Bundle.open(bundle), images)
    done: list[float] = []
    one = Choice(runtime="ort", threads=1)
    first, second, none = timer([DEFAULT, one, Choice(runtime="trt", threads=None)], thorough=True, tell=done.append)
    assert first.median_ms and first.ratio is None
    assert second.ratio is not None and second.verdict is not None and second.floor >= 1 and second.rounds >= 2
    assert none.median_ms is None and none.failure
    assert done[-1] == 1.0


@pytest.fixture
def tuned_by(monkeypatch, both) -> Callable[[Stopwatch], None]:
    def use(watch: Stopwatch) -> None:
        monkeypatch.setattr(
            tuning,
            "tune",
            lambda bundle, *, data, tell: tune(bundle, data=data, tell=tell, time_choices=watch, answers=right),
        )

    return use


def test_the_command_shows_every_choice_and_what_was_taken(edgevit, bundle, tuned_by):
    tuned_by(Stopwatch(TRIAL))
    outcome = edgevit("bench", bundle, "--autotune")
    assert outcome.status == 0, outcome.err
    text = " ".join(outcome.out.split())
    assert "ov with 1 thread 9.000 0.900 (0.800 to 1.000) as the reference" in text
    assert "ov with 2 threads is taken: 0.800 (0.700 to 0.900) of ort, measured again by itself" in text
    assert str(tuning_path(Bundle.open(bundle))) in text


def test_the_command_says_that_the_default_stays(edgevit, bundle, tuned_by):
    tuned_by(Stopwatch(TRIAL, (0.9, 1.1)))
    assert "ort stays: ov with 2 threads is 1.000" in edgevit("bench", bundle, "--autotune").out
    tuned_by(Stopwatch(dict.fromkeys(TRIAL, 1.2)))
    assert "nothing was faster than ort, which stays" in edgevit("bench", bundle, "--autotune").out


def test_the_command_prints_one_object_a_bundle(edgevit, make_bundle, tuned_by):
    tuned_by(Stopwatch(TRIAL))
    a, b = make_bundle("a"), make_bundle("b")
    answer = edgevit("bench", a, b, "--autotune", "--json").json
    assert [one["bundle"] for one in answer] == [str(a), str(b)]
    assert answer[0]["winner"] == {"runtime": "ov", "threads": 2} and answer[0]["faster"] is True
    assert answer[0]["record"]["default"] == {"runtime": "ort", "threads": None}


@pytest.mark.parametrize("option", [["--runtime", "ort"], ["--threads", "2"], ["--cpus", "0"], ["--duration", "1"]])
def test_what_autotuning_finds_out_itself_is_refused_by_name(edgevit, bundle, option):
    outcome = edgevit("bench", bundle, "--autotune", *option)
    assert outcome.status == 2 and outcome.error.endswith(f"leave {option[0]} out")


def test_autotuning_of_nothing_is_usage(edgevit):
    outcome = edgevit("bench", "--autotune")
    assert outcome.status == 2 and "missing argument 'BUNDLE'" in outcome.error


def test_the_command_works_without_openvino(edgevit, bundle, monkeypatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(choose, "_can_import", lambda library: library == "onnxruntime")
    watch = Stopwatch(TRIAL)
    monkeypatch.setattr(
        tuning, "tune", lambda bundle, *, data, tell: tune(bundle, data=data, tell=tell, time_choices=watch)
    )
    assert edgevit("bench", bundle, "--autotune").status == 0
    assert watch.calls[0][1] == ["ort", "ort with 1 thread", "ort with 2 threads"]
