"""How the program says that a bundle runs otherwise than its target says."""

from __future__ import annotations

import sys
import warnings

import pytest

from edgevit import console
from edgevit.errors import FallbackWarning, InputError

NOT_HERE = "tensorrt is not installed, and this needs it; run: pip install 'edgevit[tensorrt]'"


@pytest.fixture
def orin(make_bundle, monkeypatch):
    """A bundle for a Jetson on a machine that has neither TensorRT nor a GPU."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="what stands in")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    return make_bundle(target="jetson-orin")


def test_predict_answers_and_says_in_one_line_what_ran(edgevit, orin, pictures):
    outcome = edgevit("predict", orin, pictures / "blue" / "1.png", "--json")
    assert outcome.status == 0
    assert outcome.json[0]["label"] == "blue"
    line = f"warning: {orin}: runs on ort (CPUExecutionProvider) in place of trt; {NOT_HERE}\n"
    assert outcome.err == line


def test_eval_says_it_too(edgevit, orin, pictures):
    outcome = edgevit("eval", orin, pictures, "--json")
    assert outcome.status == 0
    assert outcome.err.startswith(f"warning: {orin}: runs on ort") and len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize(
    "command", [["predict", "{bundle}", "{picture}"], ["bench", "{bundle}"], ["verify", "{bundle}"]]
)
def test_a_runtime_that_was_named_or_is_measured_has_no_stand_in(edgevit, orin, pictures, command):
    places = {"bundle": orin, "picture": pictures / "blue" / "1.png"}
    named = ["--runtime", "trt"] if command[0] == "predict" else []
    outcome = edgevit(*[part.format(**places) for part in command], *named)
    assert outcome.status == 2
    assert outcome.error == NOT_HERE


def test_doctor_shows_what_runs_it_and_why_the_better_ones_do_not(edgevit, orin):
    outcome = edgevit("doctor", orin, "--json")
    assert outcome.status == 0
    chain = outcome.json["chain"]
    assert [(rung["runtime"], rung["runs"]) for rung in chain] == [
        ("trt", False), ("ort-trt", False), ("ort-cuda", False), ("ort", True),
    ]  # fmt: skip
    assert chain[0]["detail"] == NOT_HERE
    assert chain[1]["detail"].startswith("got TensorrtExecutionProvider, CUDAExecutionProvider; wanted providers of")
    assert chain[3]["detail"].startswith("runs it in place of trt: ")
    text = edgevit("doctor", orin).out
    assert "what runs it here, best first" in text and NOT_HERE in text


def test_doctor_shows_no_chain_where_the_best_runs(edgevit, bundle):
    outcome = edgevit("doctor", bundle, "--json")
    assert [(rung["runtime"], rung["runs"]) for rung in outcome.json["chain"]] == [("ort", True)]
    assert "best first" not in edgevit("doctor", bundle).out


def test_doctor_says_when_nothing_runs_it(edgevit, orin, monkeypatch):
    def refuse(bundle, runtime):
        raise InputError(f"no {runtime} here")

    monkeypatch.setattr("edgevit.runtimes.choose.open_runner", refuse)
    outcome = edgevit("doctor", orin)
    assert "nothing runs it here" in outcome.out


def test_list_says_how_to_get_a_provider(edgevit, orin):
    rows = {row["name"]: row for row in edgevit("list", "runtimes", "--json").json}
    assert rows["ort"]["installed"] and not rows["ort-cuda"]["installed"]
    assert "missing: pip install onnxruntime-gpu" in edgevit("list", "runtimes").out


def test_warnings_of_edgevit_are_one_line_each_time_and_others_stay_with_python(capsys):
    with console.warnings_as_lines():
        for _ in range(2):
            warnings.warn("runs on ort\nin place of trt", FallbackWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="somebody else's"):
            warnings.warn("somebody else's", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: runs on ort in place of trt\n" * 2
