"""MLPerf's loadgen over a runner, in the candidate's process: the same runner and batches, another harness's clock."""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgevit.errors import InputError, MissingExtra

# `90.00 percentile latency (ns)   : 1168841`
_PERCENTILE = re.compile(r"^(\d+\.\d+) percentile latency \(ns\)\s*:\s*(\d+)$", re.MULTILINE)


def run_single_stream(
    run: Callable[[np.ndarray], object], batches: Sequence[np.ndarray], queries: int, seed: int
) -> dict[str, int]:
    """One single-stream test of so many queries; its percentiles in nanoseconds, by their name, `90.00`.

    Args:
        run: runs one batch.
        batches: the samples that loadgen draws from.
        queries: how many it issues.
        seed: of its draw.

    Raises:
        MissingExtra: mlcommons-loadgen is not installed.
        InputError: loadgen left no percentiles.
    """
    try:
        loadgen: Any = importlib.import_module("mlperf_loadgen")
    except ImportError:
        raise MissingExtra("mlcommons-loadgen", "bench") from None
    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.SingleStream
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = 0
    settings.min_query_count = settings.max_query_count = queries
    settings.sample_index_rng_seed = seed
    failures: list[Exception] = []

    def issue(samples: Sequence[Any]) -> None:
        for sample in samples:
            try:
                run(batches[sample.index])
            except Exception as error:  # an exception must not cross into loadgen's thread; the run fails below
                failures.append(error)
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0)])

    with tempfile.TemporaryDirectory() as folder:
        logs = loadgen.LogSettings()
        logs.log_output.outdir = folder
        logs.log_output.copy_summary_to_stdout = False
        logs.enable_trace = False
        system = loadgen.ConstructSUT(issue, lambda: None)
        samples = loadgen.ConstructQSL(len(batches), len(batches), lambda _: None, lambda _: None)
        try:
            loadgen.StartTestWithLogSettings(system, samples, settings, logs)
        finally:
            loadgen.DestroyQSL(samples)
            loadgen.DestroySUT(system)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    if failures:
        raise failures[0]
    return percentiles_of_summary(summary)


def percentiles_of_summary(summary: str) -> dict[str, int]:
    """The percentiles that loadgen's summary lists.

    Raises:
        InputError: there are none.
    """
    found = {name: int(value) for name, value in _PERCENTILE.findall(summary)}
    if not found:
        raise InputError("loadgen's summary lists no percentiles; this edgevit reads that of mlcommons-loadgen 4 to 6")
    return found
