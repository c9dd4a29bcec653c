"""What `make demo` runs: the shipped models exported, verified, looked through and timed, with the commands to type.

    python examples/demo.py [FOLDER]

Everything goes to FOLDER, `demo` by default, which is made afresh.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from edgevit import console
from edgevit.benchmarks import Summary, measurement_from_json, summarise
from edgevit.bundle import Bundle
from edgevit.cli import main as edgevit
from edgevit.samples import SAMPLE_KINDS, surface


def main() -> int:
    """Run the demo; the exit status is that of the first command that fails."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    pictures = draw_pictures(folder / "pictures")
    dense, recursive, overlays, report = (folder / name for name in ("dense", "recursive", "overlays", "bench.json"))
    shutil.rmtree(overlays, ignore_errors=True)
    for command in (
        ["export", "steel-recursive", "--target", "cpu-x86", "--output", str(recursive), "--force"],
        ["export", "steel-dense", "--target", "cpu-x86", "--output", str(dense), "--force"],
        ["verify", str(recursive)],
        ["predict", str(recursive), str(pictures), "--overlay", str(overlays)],
        ["bench", str(dense), str(recursive), "--data", str(pictures), "--duration", "5", "--output", str(report)],
    ):
        console.show_line("")
        console.show_line(console.faint("$"), "edgevit", *command)
        if status := edgevit(command):
            return status
    console.show_line("")
    summary = summarise(measurement_from_json(report.read_bytes(), str(report)))
    show([Bundle.open(dense), Bundle.open(recursive)], summary)
    console.show_line("")
    console.show_line(f"Where the model looked: {overlays}{'/'}")
    return 0


def draw_pictures(folder: Path) -> Path:
    """Generated pictures of steel, two of each kind."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in SAMPLE_KINDS:
        for seed in (1, 2):
            surface(kind, seed).save(folder / f"{kind}-{seed}.png")
    return folder


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
                f"{manifest.cost['flops'] / 1e9:.3g}",
                console.size(manifest.files["model.onnx"].size_bytes),
                console.milliseconds(candidate.median_ns or 0),
                f"{ratio.ratio:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" if ratio else "1",
            )
        )
    console.show_table(("model", ">parameters", ">GFLOPs", ">ONNX file", ">median ms", ">time to dense"), rows)


if __name__ == "__main__":
    sys.exit(main())
