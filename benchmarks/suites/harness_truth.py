"""Is the harness out of the way? Its cost a query, and its figures against a bare loop's and loadgen's.

    python benchmarks/suites/harness_truth.py MODEL.onnx [--threads N] [--rounds N]

1. A null runner: nanoseconds from one query's start to the next's, which is what the harness and an empty call cost.
2. A bare loop over an ONNX Runtime session in a process of its own against the harness's worker in another, block by
   block in turn: ratio of p50, beside the ratio of two workers (A/A), which is what the machine can tell apart.
3. MLPerf's loadgen over the same runner: p50 and p90.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from edgevit.benchmarks import Candidate, Settings, check_loadgen, measure
from edgevit.benchmarks._lane import Lane
from edgevit.benchmarks.child import start_process
from edgevit.benchmarks.comparison import ratio_interval
from edgevit.benchmarks.schedule import BatchOrder
from edgevit.runtimes.null_runner import NullRunner
from edgevit.runtimes.ort import OrtRunner
from edgevit.spec import TensorSpec

BARE = """
import sys, time, gc, numpy as np, onnxruntime as ort
options = ort.SessionOptions(); options.intra_op_num_threads = int(sys.argv[2])
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
taken = session.get_inputs()[0]; names = [output.name for output in session.get_outputs()]
rng = np.random.default_rng(0)
feeds = [{taken.name: rng.standard_normal(taken.shape, dtype=np.float32)} for _ in range(8)]
for line in sys.stdin:
    session.run(names, feeds[0]); gc.disable(); times = []
    for index in range(int(line)):
        feed = feeds[index % 8]; start = time.perf_counter_ns(); session.run(names, feed)
        times.append(time.perf_counter_ns() - start)
    gc.enable(); print(*times, flush=True)
"""


def null() -> NullRunner:
    """The factory of the null runner: a small input, and one small output as a classifier has."""
    return NullRunner(TensorSpec("image", "float32", (1, 3, 8, 8)), [TensorSpec("logits", "float32", (1, 7))])


def onnx(path: str, threads: int) -> OrtRunner:
    """The factory of a bare ONNX file, without a bundle."""
    return OrtRunner(Path(path), threads=threads)


def overhead() -> None:
    """Print the first figure."""
    settings = Settings(min_duration_s=1.0, min_queries=20_000, block_s=0.05, warmup_cap_s=2)
    samples = measure([Candidate(name="null", factory=f"{_module_name()}:null")], settings).results[0].measured
    same_block = np.diff(samples.block) == 0
    whole = np.diff(samples.start_ns)[same_block]
    print(
        f"null runner, {len(samples)} queries: a query takes {np.median(samples.latency_ns):.0f} ns, "
        f"from one start to the next {np.median(whole):.0f} ns (target: 5000)"
    )


def against_a_bare_loop(model: str, threads: int, rounds: int) -> None:
    """Print the second figure."""
    candidate = Candidate(
        name="harness", factory=f"{_module_name()}:onnx", arguments={"path": model, "threads": threads}
    )
    settings = Settings(warmup_cap_s=5)
    bare = subprocess.Popen(
        [sys.executable, "-c", BARE, model, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    lanes = [Lane(candidate, settings, start_process) for _ in range(2)]
    medians: dict[str, list[float]] = {"bare": [], "harness": [], "twin": []}

    def bare_block(queries: int) -> float:
        bare.stdin.write(f"{queries}\n")
        bare.stdin.flush()
        return float(np.median([int(time_ns) for time_ns in bare.stdout.readline().split()]))

    def harness_block(lane: Lane, block: int, queries: int, order: BatchOrder) -> float:
        lane.run_block(block, order.next_block(1), order.next_block(queries), None, 10.0)
        samples = lane.measured.samples()
        return float(np.median(samples.latency_ns[samples.block == block]))

    try:
        for lane in lanes:
            lane.load()
            lane.warm_up()
            if lane.failure is not None:
                raise SystemExit(lane.failure.reason)
        queries = max(5, round(0.2 / lanes[0].typical_query_s))
        bare_block(queries)  # its warm-up
        orders = [BatchOrder(8, 1, 0), BatchOrder(8, 1, 0)]
        rng = np.random.default_rng(0)
        for block in range(rounds):
            for name in rng.permutation(list(medians)):
                index = {"harness": 0, "twin": 1}.get(name)
                if index is None:
                    medians[name].append(bare_block(queries))
                else:
                    medians[name].append(harness_block(lanes[index], block, queries, orders[index]))
    finally:
        for lane in lanes:
            lane.close()
        bare.stdin.close()
        bare.wait()
    for name, other in (("harness", "bare"), ("twin", "harness")):
        ratio = ratio_interval(np.array(medians[name]), np.array(medians[other]))
        print(f"p50 of {name} over {other}: {ratio.ratio:.4f} ({ratio.low:.4f} to {ratio.high:.4f}), {rounds} rounds")


def against_loadgen(model: str, threads: int, rounds: int) -> None:
    """Print the third figure."""
    candidate = Candidate(name="model", factory=f"{_module_name()}:onnx", arguments={"path": model, "threads": threads})
    for agreement in check_loadgen([candidate], rounds=rounds)[0].agreements:
        ratio = agreement.ratio
        print(
            f"p{agreement.percentile:g} of the harness over loadgen's: {ratio.ratio:.4f} ({ratio.low:.4f} to "
            f"{ratio.high:.4f}): {'agree' if agreement.agrees else 'DIFFER'}"
        )


def _module_name() -> str:
    """This file's name as a module: candidates' processes find its factories on the path they inherit."""
    return Path(__file__).stem


def main() -> None:
    """Print all three."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    overhead()
    against_a_bare_loop(arguments.model, arguments.threads, arguments.rounds)
    against_loadgen(arguments.model, arguments.threads, arguments.rounds)


if __name__ == "__main__":
    main()
