"""What an application waits for at its start: a bundle that is loaded imports what runs it, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="the runtime that is loaded")

START = "import sys, edgevit; edgevit.load(sys.argv[1], sys.argv[2]).close(); print(*sys.modules)"


@pytest.mark.parametrize("runtime", ["auto", "ort"])
def test_loading_a_bundle_imports_no_other_runtime_and_nothing_that_measures_or_builds(bundle: Path, runtime: str):
    done = subprocess.run([sys.executable, "-c", START, bundle, runtime], check=True, capture_output=True, text=True)
    imported = set(done.stdout.split())
    assert {"onnxruntime", "edgevit.runtimes.ort"} <= imported
    unwanted = {
        "edgevit.benchmarks", "edgevit.building", "edgevit.curve_record", "edgevit.export", "edgevit.models",
        "edgevit.runtimes.adaptive", "edgevit.runtimes.deadline", "edgevit.runtimes.overlay", "edgevit.runtimes.ov",
        "edgevit.runtimes.trt", "rich", "torch", "typer",
    }  # fmt: skip
    assert imported.isdisjoint(unwanted), imported & unwanted
    assert runtime == "auto" or "importlib.metadata" not in imported, "it takes longer than all of edgevit"
