"""What is made of a record of autotuning: taken where it holds, and said loudly where it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tuning_records import CLEAR, DEFAULT, FASTER, LIBRARIES, MACHINE, record_of

from edgevit.bundle import Bundle
from edgevit.runtimes import tuned as tuning
from edgevit.runtimes.tuned import Tuned, installed_libraries, is_tunable, tuned
from edgevit.tuning_record import Choice, Decision, Trial, TuningRecord, tuning_path, write_tuning


@pytest.fixture
def kept(make_bundle, monkeypatch) -> Bundle:
    """A bundle with the record of a measurement, on the machine and with the libraries of that record."""
    monkeypatch.setattr(tuning, "this_machine", lambda: MACHINE)
    monkeypatch.setattr(tuning, "installed_libraries", lambda: LIBRARIES)
    bundle = make_bundle()
    write_tuning(bundle, record_of(bundle.digest))
    return bundle


def naming(bundle: Bundle, winner: Choice) -> TuningRecord:
    """The record, with another winner."""
    trials = (
        Trial(choice=DEFAULT, median_ms=2.0, ratio=None, refused=None),
        Trial(choice=winner, median_ms=1.5, ratio=CLEAR, refused=None),
    )
    decision = Decision(challenger=winner, ratio=CLEAR, floor=1.02, rounds=50)
    return record_of(bundle.digest, trials=trials, decision=decision)


def test_what_was_clearly_faster_here_is_taken_and_said(kept):
    found = tuned(kept)
    assert found.choice == FASTER and not found.ignored
    assert found.said == "autotuning measured ov with 2 threads at 0.800 (0.750 to 0.850) of ort here"
    assert found.order(("ort",)) == ("ov", "ort") and found.order(("ov", "ort")) == ("ov", "ort")
    assert found.threads_on("ov", None) == 2 and found.threads_on("ort", None) is None


def test_without_a_record_all_is_as_it_was_and_nothing_is_said(make_bundle):
    found = tuned(make_bundle())
    assert found == Tuned()
    assert found.order(("ort",)) == ("ort",) and found.threads_on("ort", 3) == 3


def test_where_nothing_was_clearly_faster_the_default_stays(kept):
    write_tuning(kept, record_of(kept.digest, decision=None))
    found = tuned(kept)
    assert found.choice is None and not found.ignored
    assert found.said == "autotuning found nothing clearly faster here than ort"


def test_a_number_of_threads_that_was_asked_for_is_kept(kept):
    found = tuned(kept, threads=1)
    assert (
        found.choice is None
        and not found.ignored
        and "left out since a number of threads was asked for" in str(found.said)
    )


@pytest.mark.parametrize(
    "name, value, line",
    [
        ("this_machine", replace(MACHINE, cpus=4), "it was measured on Xeon, x86_64, 2 CPUs; this is"),
        ("installed_libraries", LIBRARIES | {"openvino": "2027.0"}, "openvino 2026.4.1; here is 2027.0"),
        ("installed_libraries", {"onnxruntime": "1.31.1"}, "openvino 2026.4.1; here is none"),
    ],
)
def test_a_record_of_another_machine_or_library_is_ignored_loudly(kept, monkeypatch, name, value, line):
    monkeypatch.setattr(tuning, name, lambda: value)
    found = tuned(kept)
    assert found.choice is None and found.ignored
    assert line in str(found.said) and str(found.said).endswith(f"run: edgevit bench {kept.path} --autotune")


def test_a_record_of_another_bundle_is_ignored_loudly(kept, tmp_path):
    path = tuning_path(kept)
    other = replace(kept, digest="1" * 64)
    assert tuned(other).ignored and "another bundle" in str(tuned(other).said)
    assert path.exists()


def test_a_damaged_record_is_ignored_loudly(kept):
    path = tuning_path(kept)
    path.write_bytes(path.read_bytes().replace(b'"images": 8', b'"images": 9'))
    found = tuned(kept)
    assert found.choice is None and found.ignored and "its hash differs" in str(found.said)
    assert len(str(found.said).splitlines()) == 1


@pytest.mark.parametrize(
    "winner, line",
    [
        (Choice(runtime="null", threads=None), "no runtime for a CPU"),
        (Choice(runtime="trt", threads=None), "no runtime for a CPU"),
        (Choice(runtime="ort", threads=64), "more threads than the 2 CPUs there are"),
    ],
)
def test_a_record_with_a_good_hash_still_chooses_among_cpu_runtimes_alone(kept, winner, line):
    write_tuning(kept, naming(kept, winner))
    found = tuned(kept)
    assert found.choice is None and found.ignored and line in str(found.said)


@pytest.mark.parametrize("target, tunable", [("cpu-x86", True), ("openvino", True), ("rtx", False)])
def test_only_bundles_for_a_cpu_have_a_choice(make_bundle, target, tunable):
    bundle = make_bundle(target=target)
    assert is_tunable(bundle) is tunable
    write_tuning(bundle, record_of(bundle.digest, machine=replace(MACHINE, cpus=77)))
    assert tuned(bundle).ignored is tunable


def test_versions_are_those_that_a_runner_states():
    onnxruntime = pytest.importorskip("onnxruntime", reason="asks for its version")
    assert installed_libraries()["onnxruntime"] == onnxruntime.__version__
