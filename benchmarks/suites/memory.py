"""Memory that a loaded model adds to a process, in bytes of its weights; several sessions of it; and other ways to run.

    python benchmarks/suites/memory.py [--output FOLDER] [--threads N] [--runs N]

Linux only. Each row is a process of its own, in which a session of one node comes first, so that what the library takes
for itself is not counted. Then the model is loaded and answers a few times, and the growth is read from the kernel:
anonymous memory, which is the process's own, and mapped files, whose pages others share (proportional share).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import memory_ways
import numpy as np
from memory_rows import Row, rows_in, tiny_graph

from edgevit import console

_MIB = 2**20


def grown(row: Row, tiny: str, threads: int, runs: int) -> dict[str, float]:
    """What this process grows by, in MiB, once the model is loaded and has answered `runs` times."""
    kind = getattr(memory_ways, row.kind)
    if row.kind == "torch_eager":
        import torch

        with torch.inference_mode():
            torch.nn.Linear(4, 4)(torch.zeros(1, 4))
        kind(row.path, threads)  # what making a model imports
    else:
        alone = row.kind if row.kind in ("openvino", "PlainSession") else "one_node"
        with getattr(memory_ways, alone)(tiny, threads) as runner:
            runner(np.zeros((1, 3, 4, 4), np.float32))
            return _grown_after(kind, row, threads, runs)
    return _grown_after(kind, row, threads, runs)


def _grown_after(kind, row: Row, threads: int, runs: int) -> dict[str, float]:
    image = np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)
    before = _memory()
    with ExitStack() as stack:
        runners = [stack.enter_context(kind(row.path, threads)) for _ in range(row.sessions)]
        for runner in runners:
            for _ in range(runs):
                runner(image)
        after = _memory()
    return {name: (after[name] - before[name]) / _MIB for name in after}


def _memory() -> dict[str, int]:
    lines = Path("/proc/self/smaps_rollup").read_text()
    found = {name: re.search(rf"^{name}:\s+(\d+) kB", lines, re.MULTILINE) for name in ("Anonymous", "Pss_File", "Rss")}
    return {name: int(match[1]) * 1024 for name, match in found.items() if match}


def main() -> None:
    """Export, measure each row in a process of its own, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/memory"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    tiny = arguments.output / "tiny.onnx"
    if arguments.child:
        print(json.dumps(grown(Row(**json.loads(arguments.child)), str(tiny), arguments.threads, arguments.runs)))
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    tiny_graph(tiny)
    lines = []
    for row in rows_in(arguments.output):
        results = [_measured(row, arguments) for _ in range(2)]  # the first packs what the second maps
        first, again = (result["Anonymous"] for result in results)
        weights = row.weights_bytes / _MIB
        last = results[-1]
        lines.append(
            (row.name, f"{weights:.1f}", f"{first:.1f}", f"{again:.1f}", f"{again / weights:.2f}",
             f"{last['Pss_File']:.1f}", f"{last['Rss']:.1f}")
        )  # fmt: skip
    console.show_table(
        ("MiB", ">weights", ">anonymous, first start", ">later", ">to weights", ">files", ">resident"), lines
    )


def _measured(row: Row, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--output", arguments.output, "--threads", str(arguments.threads)]
    command += ["--runs", str(arguments.runs), "--child", json.dumps(vars(row))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
