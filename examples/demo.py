"""What `make demo` runs: the shipped models exported, verified, tried and timed, by the commands that a user types.

    python examples/demo.py [FOLDER]

What comes out is written to FOLDER, `demo` by default.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from edgevit import cli, console
from edgevit.benchmarks import Summary, measurement_from_json, summarise
from edgevit.bundle import Bundle
from edgevit.samples import SAMPLE_KINDS, surface


def main() -> int:
    """Run the demo; the exit status is that of the first command that fails."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    dense, recursive, pictures, overlays = (
        str(folder / name) for name in ("dense", "recursive", "pictures", "overlays")
    )
    report = folder / "bench.json"
    for old in (pictures, overlays):
        shutil.rmtree(old, ignore_errors=True)
    draw_pictures(Path(pictures))
    for command in (
        ["export", "steel-recursive", "--target", "cpu-x86", "--output", recursive, "--force"],
        ["export", "steel-dense", "--target", "cpu-x86", "--output", dense, "--force"],
        ["verify", recursive],
        ["predict", recursive, pictures, "--overlay", overlays],
        ["bench", dense, recursive, "--data", pictures, "--duration", "5", "--percentile", "50", "--percentile", "90",
         "--output", str(report)],
    ):  # fmt: skip
        console.show_line(console.faint("\n$"), "edgevit", *command)
        status = cli.main(command)
        if status != 0:
            return status
    console.show_line("")
    show(
        [Bundle.open(dense), Bundle.open(recursive)], summarise(measurement_from_json(report.read_bytes(), str(report)))
    )
    console.show_line("\nThe pictures were drawn by a program; the models were trained on photographs of steel.")
    console.show_line(f"Where the model looked: {overlays}")
    return 0


def draw_pictures(folder: Path) -> None:
    """A picture of each defect."""
    folder.mkdir(parents=True)
    for kind in SAMPLE_KINDS:
        if kind != "plain":  # not a class of the models
            surface(kind, seed=1).save(folder / f"{kind}.png")


def show(bundles: list[Bundle], summary: Summary) -> None:
    """What comes out, in one table."""
    ratios = {comparison.candidate: comparison.interval for comparison in summary.comparisons}
    rows = []
    for bundle, candidate in zip(bundles, summary.candidates, strict=True):
        manifest, ratio = bundle.manifest, ratios.get(candidate.name)
        rows.append(
            (
                manifest.model.source,
                console.millions(manifest.model.parameters),
                f"{manifest.cost['flops'] / 1e9:.2f}",
                console.size(manifest.files["model.onnx"].size_bytes),
                console.milliseconds(candidate.median_ns),
                f"{ratio.ratio:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" if ratio else "1",
            )
        )
    console.show_table(("model", ">parameters", ">GFLOPs", ">ONNX file", ">median ms", ">time to dense"), rows)


if __name__ == "__main__":
    sys.exit(main())
