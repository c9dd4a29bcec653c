"""Ctrl-C in the middle of a command, through the real program: one line, status 130, nothing half-written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# A job that a shell put into the background ignores interrupts, and so would what the tests start there.
HEED = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
PROGRAM = [sys.executable, "-c", f"{HEED}; from edgevit.cli import main; sys.exit(main())"]

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="holds the program up with a pipe that has a name")


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A file that nobody writes: whoever reads it is there until he is interrupted."""
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    return path


def interrupted(pipe: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command line until it reads the pipe, then do what a terminal does on Ctrl-C: tell all its processes."""
    process = subprocess.Popen(
        [*PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    held = None
    try:
        while held is None:
            held = _held(pipe)
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate()
    finally:
        process.kill()
        process.communicate()
        if held is not None:
            os.close(held)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _held(pipe: Path) -> int | None:
    """The end of the pipe to write to; None while nobody reads."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


def assert_one_line(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (
        130, "", "error: interrupted before it was done; run it again\n",
    )  # fmt: skip


def test_predict(bundle: Path, pipe: Path) -> None:
    assert_one_line(interrupted(pipe, "predict", bundle, pipe))


def test_an_export_leaves_nothing(pipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    # The trace runs the model, which reads the pipe: torch is in the middle of its work then.
    (tmp_path / "slow.py").write_text(
        "from pathlib import Path\n"
        "import torch\n"
        "from edgevit.models.opening import open_model\n"
        "class Waits(torch.nn.LayerNorm):\n"
        "    def forward(self, x):\n"
        "        if torch.compiler.is_exporting():\n"
        f"            Path({str(pipe)!r}).read_bytes()\n"
        "        return super().forward(x)\n"
        "def build():\n"
        "    module = open_model('steel-dense').module\n"
        "    module.norm = Waits(module.norm.normalized_shape)\n"
        "    return module\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    before = sorted(tmp_path.iterdir())
    done = interrupted(
        pipe, "export", "slow:build", "--num-classes", "7", "--input-size", "128", "--output", tmp_path / "made"
    )
    assert_one_line(done)
    assert sorted(tmp_path.iterdir()) == before


def test_bench_before_anything_was_measured(bundle: Path, pipe: Path, tmp_path: Path) -> None:
    done = interrupted(pipe, "bench", bundle, "--scenario", "paced", "--period-ms", "5", "--trigger-file", pipe,
                       "--output", tmp_path / "r.json")  # fmt: skip
    assert_one_line(done)
    assert not (tmp_path / "r.json").exists()
