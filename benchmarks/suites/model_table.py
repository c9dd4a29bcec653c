"""The README's table: each shipped model, what it costs and how good it is.

    python benchmarks/suites/model_table.py DATA [--output FOLDER] [--duration S]

DATA is a folder per class. Accuracy comes from the exported bundles on ONNX Runtime, intervals are 95 %, the difference
to the dense model is paired (the same pictures), times are ratios in one run, a process each, on those pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import edgevit
from edgevit.benchmarks import summarise
from edgevit.image_folder import ImageFolder
from edgevit.metrics import paired_difference_interval, wilson_interval

MODELS = (
    ("steel-dense", "dense", None),
    ("steel-recursive", "topk", None),
    ("steel-adaptive", "adaptive", "threshold"),
    ("steel-ltm", "dense", None),
    ("steel-tome", "dense", None),
)


def main() -> None:
    """Export, judge, time, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/model_table"))
    parser.add_argument("--duration", type=float, default=10.0, help="seconds a candidate, at least")
    arguments = parser.parse_args()

    folder = ImageFolder.open(arguments.data)
    bundles, correct, patches = [], [], []
    for name, routing, selection in MODELS:
        bundle = edgevit.export_model(
            name, output=arguments.output / name, routing=routing, selection=selection, force=True
        )
        with edgevit.load(bundle.path) as session:
            answers = session.predict([path for path, _ in folder.items])
        right = [
            answer.label == folder.labels[target] for answer, (_, target) in zip(answers, folder.items, strict=True)
        ]
        counts = [answer.routing.counts for answer in answers if answer.routing is not None]
        bundles.append(bundle)
        correct.append(np.array(right))
        patches.append(np.mean(counts, axis=0) if counts else None)
    measurement = edgevit.measure(
        [bundle.path for bundle in bundles], data=arguments.data, min_duration_s=arguments.duration
    )
    ratios = {comparison.candidate: comparison.interval for comparison in summarise(measurement).comparisons}

    print("| model | accuracy | against dense, points | patches a step | parameters | GFLOPs | ONNX | time to dense |")
    print("|---|---|---|---|---|---|---|---|")
    for (name, routing, _), bundle, right, counts in zip(MODELS, bundles, correct, patches, strict=True):
        low, high = wilson_interval(int(right.sum()), len(right))
        against = paired_difference_interval(right, correct[0])
        ratio = ratios.get(bundle.path.name)
        manifest = bundle.manifest
        cells = (
            f"`{name}` as `{routing}`",
            f"{right.mean():.3f} ({low:.3f} to {high:.3f})",
            ""
            if ratio is None
            else f"{100 * against.difference:+.1f} ({100 * against.low:+.1f} to {100 * against.high:+.1f})",
            "" if counts is None else ", ".join(f"{count:.0f}" for count in counts),
            f"{manifest.model.parameters / 1e6:.2f} M",
            f"{manifest.cost['flops'] / 1e9:.2f}",
            f"{manifest.files['model.onnx'].size_bytes / 1e6:.1f} MB",
            "1" if ratio is None else f"{ratio.ratio:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
        )
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
