"""What `Session.predict` adds to its runner, preprocessing aside.

    python benchmarks/suites/session_overhead.py BUNDLE [--calls N]

In one process on one loaded graph: blocks of bare calls of the runner on the tensor, and blocks of predictions of the
same picture, in turn. From a prediction's time its preprocessing, which it reports, is taken off.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time

import numpy as np

import edgevit
from edgevit.samples import surface

BLOCK = 20


def main() -> None:
    """Measure and print the median ratio of neighbouring blocks with its quartiles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("--calls", type=int, default=2000)
    arguments = parser.parse_args()
    with edgevit.load(arguments.bundle) as session:
        preprocess = session.bundle.manifest.preprocess
        pixels = np.asarray(surface("surface_scratch", 1, (preprocess.width, preprocess.height)))
        tensor = preprocess.batch([pixels] * session.bundle.manifest.input.shape[0])
        for _ in range(BLOCK):
            session.runner(tensor)
            session.predict(pixels)
        gc.disable()
        ratios = []
        for _ in range(max(arguments.calls // BLOCK, 1)):
            bare, whole = [], []
            for _ in range(BLOCK):
                begin = time.perf_counter_ns()
                session.runner(tensor)
                bare.append(time.perf_counter_ns() - begin)
            for _ in range(BLOCK):
                begin = time.perf_counter_ns()
                answer = session.predict(pixels)
                whole.append(time.perf_counter_ns() - begin - answer.timings.preprocess_ns)
            ratios.append(statistics.median(whole) / statistics.median(bare))
        low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"predict / bare runner, preprocessing aside: {middle:.3f} (quartiles {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
