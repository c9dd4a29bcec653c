"""`edgevit export` and `edgevit train`: options become settings, and what exists is what may be asked for."""

from __future__ import annotations

import dataclasses
import re
import sys

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from edgevit import api
from edgevit.benchmarks import Settings
from edgevit.bundle import Bundle
from edgevit.cli import app

torch = pytest.importorskip("torch", reason="models are made of torch")
pytest.importorskip("onnxruntime", reason="an export is verified on ONNX Runtime")

from edgevit.export.settings import ExportSettings  # noqa: E402
from edgevit.models.catalog import CatalogEntry  # noqa: E402
from edgevit.models.recursive import RecursiveConfig, dense_twin  # noqa: E402
from edgevit.training.settings import TrainSettings  # noqa: E402

TINY = RecursiveConfig(
    image_size=16, patch_size=8, classes=2, width=8, heads=2, depth=1, recursions=2, capacities=(1.0, 0.5)
)


@pytest.fixture(autouse=True)
def tiny_models(monkeypatch):
    """A catalog of small models, to be opened with random weights."""
    entries = (
        CatalogEntry("tiny", "for tests", TINY, None),
        CatalogEntry("tiny-dense", "for tests", dense_twin(TINY), None),
        CatalogEntry("tiny-token", "for tests", dataclasses.replace(TINY, router="token_choice"), None),
    )
    monkeypatch.setattr("edgevit.models.catalog.CATALOG", entries)


@pytest.fixture
def parts(tmp_path):
    """Good and bad parts: dark and bright pictures, 8 of each."""
    rng = np.random.default_rng(0)
    for label, low in (("bad", 0), ("good", 150)):
        (tmp_path / "parts" / label).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(low, low + 100, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "parts" / label / f"{number}.png")
    return tmp_path / "parts"


@pytest.mark.parametrize(
    "command, settings", [("export", ExportSettings), ("train", TrainSettings), ("bench", Settings)]
)
def test_the_defaults_that_help_states_are_those_of_the_settings(command, settings):
    renamed = {
        "warmup": "warmup_cap_s",
        "duration": "min_duration_s",
        "iterations": "min_queries",
        "percentile": "percentiles",
    }
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    stated = 0
    for parameter in get_command(app).commands[command].params:
        found = re.search(r"\[default: (.*)\]$", parameter.help or "")
        default = defaults.get(renamed.get(parameter.name, parameter.name))
        if found is None or default is None:
            continue  # no default in words, or one that depends on the model
        stated += 1
        if isinstance(default, bool):
            assert found[1] == (parameter.name if default else f"no-{parameter.name}")
        elif isinstance(default, tuple):
            assert [float(number) for number in found[1].split(", ")] == list(default)
        elif isinstance(default, str):
            assert found[1] == default
        else:
            assert float(found[1]) == default, parameter.name
    assert stated >= 6


def test_a_model_becomes_a_verified_bundle(edgevit, tmp_path):
    outcome = edgevit("export", "tiny", "--output", tmp_path / "d" / "tiny", "--no-simplify", "--batch-size", "2")
    assert outcome.status == 0, outcome.err
    assert "topk, expert choice: 4, 2 of 4 patches in 2 steps" in outcome.out
    assert re.search(r"(\d+) of \1 decisions", outcome.out)
    bundle = Bundle.open(tmp_path / "d" / "tiny")
    assert bundle.manifest.input.shape == (2, 3, 16, 16)
    assert bundle.manifest.parity is not None
    before = (bundle.path / "manifest.json").read_bytes()

    outcome = edgevit("export", "tiny", "--output", bundle.path)
    assert outcome.status == 2
    assert "--force" in outcome.error
    assert (bundle.path / "manifest.json").read_bytes() == before


def test_a_model_of_ones_own_is_found_in_the_working_directory(edgevit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_models.py").write_text(
        "import torch\n"
        "class Means(torch.nn.Module):\n"
        "    def forward(self, image):\n"
        "        return image.mean(dim=(2, 3))\n"
        "def build():\n"
        "    return Means()\n"
    )
    outcome = edgevit("export", "my_models:build", "--input-size", "16", "--no-simplify", "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.json["bundle"] == str(tmp_path / "my_models.build-cpu-x86")
    assert outcome.json["manifest"]["labels"] == ["class 0", "class 1", "class 2"]


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["tinny"], "unknown model 'tinny'; did you mean 'tiny'?"),
        (["tiny", "--target", "jetson"], "unknown target 'jetson'"),
        (["tiny", "--precision", "bf16"], "precision bf16 is not built for target cpu-x86; use fp32, int8"),
        (["tiny", "--thresholds", "0,high"], "--thresholds 0,high; wanted numbers such as -0.5,0,0.25"),
        (["tiny", "--thresholds", "0,0"], "2 thresholds for 2 recursions"),
        (["tiny-token", "--thresholds", "0,0"], "thresholds are for an expert-choice router"),
        (["tiny", "--routing", "sparse"], "sparse"),
        (["tiny", "--selection", "best"], "best"),
        (["tiny", "--routing", "dense"], "--routing dense for a model with a router"),
        (["tiny-token", "--routing", "topk"], "use --routing adaptive or --routing mask"),
        (["tiny-token", "--budgets", "0,few"], "--budgets 0,few; wanted auto, or numbers of patches such as 0,16,64"),
        (["tiny-token", "--budgets", "0,9999"], "a budget of 9999 for"),
        (["tiny-token", "--budgets", "auto"], "--budgets auto chooses by pictures"),
        (["tiny-token", "--budgets", "auto", "--calibration-data", "none"], "none"),
        (["tiny", "--budgets", "0,4"], "--budgets are the rungs of --routing adaptive, this export is topk"),
        (["tiny-dense", "--routing", "mask"], "--routing mask for a model without a router"),
        (["tiny", "--opset", "9"], "opset 9"),
        (["tiny", "--batch-size", "0"], "batch size 0"),
        (["tiny", "--checkpoint", "none.safetensors"], "none.safetensors: cannot be read"),
        (["tiny", "--input-size", "99"], "--input-size 99"),
        (["no_such_module:build"], "no_such_module:build: cannot be imported"),
    ],
)
def test_what_does_not_exist_or_fit_is_one_line_and_leaves_nothing(edgevit, tmp_path, monkeypatch, arguments, problem):
    monkeypatch.setattr(sys, "path", list(sys.path))
    outcome = edgevit("export", *arguments, "--output", tmp_path / "d")
    assert outcome.status == 2
    assert problem in outcome.error
    assert not (tmp_path / "d").exists()


def test_a_run_leaves_a_checkpoint_that_can_be_judged_and_exported(edgevit, parts, tmp_path):
    run = tmp_path / "run"
    options = ["--epochs", "2", "--batch-size", "4", "--val-share", "0.5", "--run-length", "2", "--output", run]
    outcome = edgevit("train", "tiny", parts, *options, "--calibrate", "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.json["checkpoint"] == str(run / "checkpoint.safetensors")
    assert outcome.json["evaluation"]["labels"] == ["bad", "good"]
    assert len(outcome.json["thresholds"]) == 1
    for rule in ("top-k", "threshold"):
        result = edgevit("eval", run / "checkpoint.safetensors", parts, "--selection", rule, "--json").json
        assert result["evaluation"]["images"] == 16
        assert result["mean_patches"][0] == 4.0

    outcome = edgevit("train", "tiny", parts, *options)
    assert outcome.status == 2
    assert "--resume" in outcome.error
    outcome = edgevit("train", "tiny", parts, *options, "--resume", "--calibrate")
    assert outcome.status == 0, outcome.err
    assert "thresholds" in outcome.out and "what was held out of" in outcome.out


def test_options_of_a_run_become_settings_and_the_rest_keeps_its_default(edgevit, monkeypatch):
    calls = []
    monkeypatch.setattr(api, "train_model", lambda model, data, **options: calls.append(options))
    monkeypatch.setenv("RANK", "1")  # a process that is not the first shows nothing
    outcome = edgevit(
        "train", "tiny", "parts", "--learning-rate", "0.01", "--seed", "3", "--ema-decay", "0.5",
        "--init", "a.safetensors",
    )  # fmt: skip
    assert (outcome.status, outcome.out) == (0, "")
    (call,) = calls
    assert (call["learning_rate"], call["seed"], call["ema_decay"]) == (0.01, 3, 0.5)
    assert str(call["initial"]) == "a.safetensors"
    assert str(call["output"]) == "runs/tiny"
    assert "epochs" not in call


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["tinny"], "unknown model 'tinny'"),
        (["tiny-dense", "--calibrate"], "leave --calibrate out"),
        (["tiny", "--epochs", "0"], "epochs is 0"),
        (["tiny", "--resume"], "--resume"),
    ],
)
def test_a_run_that_makes_no_sense_is_one_line_and_leaves_nothing(edgevit, parts, tmp_path, arguments, problem):
    outcome = edgevit("train", arguments[0], parts, *arguments[1:], "--output", tmp_path / "run")
    assert outcome.status == 2
    assert problem in outcome.error
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_without_a_router_has_no_rule(edgevit, parts, tmp_path):
    run = tmp_path / "run"
    assert edgevit("train", "tiny-dense", parts, "--epochs", "1", "--run-length", "2", "--output", run).status == 0
    outcome = edgevit("eval", run / "checkpoint.safetensors", parts, "--selection", "top-k")
    assert outcome.status == 2
    assert "leave it out" in outcome.error
    assert edgevit("eval", run / "checkpoint.safetensors", parts, "--json").json["mean_patches"] == []
