"""What goes wrong while `edgevit bench` runs, through the real program: the files that it leaves are whole."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgevit.benchmarks import Measurement, measurement_from_json

# A job that a shell put into the background ignores interrupts, and so would what the tests start there.
HEED = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
PROGRAM = [sys.executable, "-c", f"{HEED}; from edgevit.cli import main; sys.exit(main())", "bench"]
# The bundles take microseconds: paced queries are few.
PACED = ["--scenario", "paced", "--period-ms", "2", "--warmup", "0.01"]


class Running:
    """A run that is long, whose standard error is a terminal: what it shows there says how far it is."""

    def __init__(self, *arguments: str | Path, duration_s: int) -> None:
        self._screen, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [*PROGRAM, *map(str, arguments), *PACED, "--duration", str(duration_s)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=terminal,
            env={**os.environ, "COLUMNS": "200", "TERM": "xterm"},
        )
        os.close(terminal)
        self.shown = b""

    def wait_for(self, text: str) -> None:
        """Read the screen until that is on it."""
        while text.encode() not in self.shown:
            content = self._read()
            assert content, self.shown.decode()  # it ended before
            self.shown += content

    def candidates(self) -> list[int]:
        """Processes of the candidates, in the order in which they were started."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self) -> tuple[int, str]:
        """Exit status, and the last line on the screen."""
        assert self.process.stdout is not None
        while content := self._read():
            self.shown += content
        self.process.stdout.read()
        return self.process.wait(), self.shown.decode().splitlines()[-1]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._screen)

    def _read(self) -> bytes:
        try:
            return os.read(self._screen, 1 << 16)
        except OSError:  # the terminal is gone with the program
            return b""


@contextmanager
def running(*arguments: str | Path, duration_s: int) -> Iterator[Running]:
    run = Running(*arguments, duration_s=duration_s)
    try:
        yield run
    finally:
        run.close()


@pytest.fixture
def reports(tmp_path: Path) -> list[str | Path]:
    """Options for a report of each kind."""
    pytest.importorskip("plotly", reason="plotly is not installed")
    return ["--output", tmp_path / "r.json", "--csv", tmp_path / "r.csv", "--html", tmp_path / "r.html"]


def read_reports(folder: Path) -> Measurement:
    """The measurement; the table and the page say the same of it."""
    measurement = measurement_from_json((folder / "r.json").read_bytes(), "r.json")
    rows = list(csv.DictReader(io.StringIO((folder / "r.csv").read_text())))
    for result in measurement.results:
        measured = [row for row in rows if (row["candidate"], row["phase"]) == (result.candidate.name, "measured")]
        assert len(measured) == len(result.measured)
    assert (folder / "r.html").read_text().endswith("</html>\n")
    assert not list(folder.glob(".*.partial"))
    return measurement


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the candidates in /proc")


@needs_proc
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_partial_reports_that_are_whole_files(
    bundle: Path, reports: list[str | Path], tmp_path: Path, by: signal.Signals
) -> None:
    with running(bundle, *reports, duration_s=40) as run:  # a block is a tenth of that
        run.wait_for("queries")
        run.process.send_signal(by)
        status, last = run.end()
    assert status == 1
    assert last == "error: the run was interrupted: these figures are partial; run it to its end"
    measurement = read_reports(tmp_path)
    assert measurement.ended == "interrupted"
    assert len(measurement.results[0].measured) > 0


@needs_proc
def test_a_candidate_that_is_killed_leaves_the_others_measured(
    make_bundle: Callable[..., Path], reports: list[str | Path], tmp_path: Path
) -> None:
    with running(make_bundle("dense", routed=False), make_bundle("topk"), *reports, duration_s=3600) as run:
        run.wait_for("measuring")
        os.kill(run.candidates()[1], signal.SIGKILL)
        run.wait_for("failed")
        run.process.send_signal(signal.SIGINT)  # it would go on with the other for an hour
        status, last = run.end()
    assert status == 1
    assert "topk: 'topk' was ended by signal 9 (SIGKILL) during 'block'" in last
    dense, topk = read_reports(tmp_path).results
    assert dense.failure is None and len(dense.measured) > 0
    assert topk.failure is not None and topk.failure.kind == "died"


def short_run(limit_bytes: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A short run in which no file may grow beyond a limit: what a full disk does, without one."""
    return subprocess.run(
        [*PROGRAM, *map(str, arguments), *PACED, "--duration", "0.01", "--iterations", "4"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_a_report_for_which_there_is_no_room_leaves_the_others_and_its_old_one(
    bundle: Path, reports: list[str | Path], tmp_path: Path
) -> None:
    (tmp_path / "r.html").write_text("the old page</html>\n")
    done = short_run(1_000_000, bundle, *reports)  # the page is larger than that, the others are not
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'r.html'}: cannot be written (File too large)")
    assert "milliseconds a query" in done.stdout
    assert len(read_reports(tmp_path).results[0].measured) >= 4
    assert (tmp_path / "r.html").read_text() == "the old page</html>\n"


def test_without_any_room_the_figures_are_shown_and_the_old_report_stays(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("old")
    done = short_run(100, bundle, "--output", tmp_path / "r.json", "--json")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr.splitlines()[-1]
    assert json.loads(done.stdout)["candidates"][0]["queries"] >= 4
    assert (tmp_path / "r.json").read_text() == "old"
    assert not list(tmp_path.glob(".*.partial"))
