"""How much of the arithmetic that routing saves becomes time: each model as `topk` and `mask` against its dense twin.

    python benchmarks/suites/routing_speed.py [--duration S] [--output FOLDER]

One run, one process a candidate, interleaved. Exports what it times into FOLDER first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import edgevit
from edgevit import console
from edgevit.benchmarks import measurement_to_json, summarise
from edgevit.bundle import Bundle
from edgevit.files import atomic_write

# (dense twin, routed model): the shipped size, and the width of DeiT-S.
PAIRS = (("steel-dense", "steel-recursive"), ("dense-deit-s", "recursive-deit-s"))


def exported(folder: Path, model: str, routing: str) -> Bundle:
    """The bundle of a model in a mode, exported afresh."""
    return edgevit.export_model(model, output=folder / f"{model}-{routing}", routing=routing, force=True)


def main() -> None:
    """Export, measure, print one table a pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration", type=float, default=10.0, help="seconds a candidate, at least")
    parser.add_argument("--output", type=Path, default=Path("runs/routing_speed"))
    arguments = parser.parse_args()
    for dense_model, routed_model in PAIRS:
        dense = exported(arguments.output, dense_model, "dense")
        routed = [exported(arguments.output, routed_model, mode) for mode in ("topk", "mask")]
        measurement = edgevit.measure([dense.path, *(b.path for b in routed)], min_duration_s=arguments.duration)
        atomic_write(arguments.output / f"{routed_model}.json", measurement_to_json(measurement))
        summary = summarise(measurement)
        rows = []
        for bundle, comparison in zip(routed, summary.comparisons, strict=True):
            flops = bundle.manifest.cost["flops"] / dense.manifest.cost["flops"]
            time = comparison.interval
            rows.append(
                (
                    bundle.path.name,
                    f"{flops:.3f}",
                    f"{time.ratio:.3f} ({time.low:.3f} to {time.high:.3f})",
                    f"{flops / time.ratio:.2f}",
                )
            )
        console.show_table(
            (f"against {dense.path.name}", ">FLOPs", ">time", ">share of the saving that became time"), rows
        )
        for check in summary.checks:
            console.show_line(str(check))


if __name__ == "__main__":
    main()
