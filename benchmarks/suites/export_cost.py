"""What an export costs: file against parameters, time against bare `torch.onnx.export`, twice the same bytes.

    python benchmarks/suites/export_cost.py [--repeats N]

DeiT-S width. Times are of single exports, each in a process of its own whose imports and first, trivial export are
over before the clock starts; bare and whole exports alternate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from edgevit import console

RECURSIONS = (2, 3, 4, 6)
BLOCKS = 12


def source(recursions: int):
    """A recursive ViT of DeiT-S width whose steps amount to 12 blocks, with random weights."""
    from edgevit.models.catalog import entry_named
    from edgevit.models.recursive import RecursiveViT
    from edgevit.models.source import source_of

    config = entry_named("recursive-deit-s").config
    capacities = tuple(0.5**r for r in range(recursions))
    config = replace(config, depth=BLOCKS // recursions, recursions=recursions, capacities=capacities)
    return source_of(f"recursive R={recursions}", RecursiveViT(config).eval())


def timed(kind: str, recursions: int) -> dict[str, float]:
    """Run in the child: one trivial export, then the one that is timed."""
    import torch

    from edgevit.bundle import GRAPH_NAME
    from edgevit.export.pipeline import export_bundle
    from edgevit.export.settings import ExportSettings
    from edgevit.export.trace import trace
    from edgevit.models.deploy import default_routing, deploy, routing_spec
    from edgevit.models.source import source_of
    from edgevit.runtimes.ort import OrtRunner

    with tempfile.TemporaryDirectory() as folder:
        flat = source_of("flat", torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()), input_size=16)
        export_bundle(flat, ExportSettings(), Path(folder) / "flat", open_graph=OrtRunner)
        model = source(recursions)
        begin = time.perf_counter()
        if kind == "whole":
            bundle = export_bundle(model, ExportSettings(), Path(folder) / "b", open_graph=OrtRunner)
            seconds = time.perf_counter() - begin
            ratio = bundle.manifest.files[GRAPH_NAME].size_bytes / (4 * bundle.manifest.model.parameters)
            return {"seconds": seconds, "bytes_ratio": ratio}
        routing = routing_spec(model.module, default_routing(model.module))
        trace(deploy(model.module, routing), (1, 3, 224, 224), ExportSettings().opset_version)
        return {"seconds": time.perf_counter() - begin}


def in_child(kind: str, recursions: int) -> dict[str, float]:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--child", kind, str(recursions)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def identical_twice() -> bool:
    """Whether two exports of one checkpoint are the same bytes."""
    import edgevit

    with tempfile.TemporaryDirectory() as folder:
        digests = {edgevit.export_model("steel-recursive", output=Path(folder) / name).digest for name in ("a", "b")}
    return len(digests) == 1


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(timed(arguments.child[0], int(arguments.child[1]))))
        return
    rows = []
    for recursions in RECURSIONS:
        pairs = [(in_child("bare", recursions), in_child("whole", recursions)) for _ in range(arguments.repeats)]
        ratios = [whole["seconds"] / bare["seconds"] for bare, whole in pairs]
        rows.append(
            (
                str(recursions),
                f"{pairs[0][1]['bytes_ratio']:.3f}",
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                f"{statistics.median(bare['seconds'] for bare, _ in pairs):.1f} s",
            )
        )
    console.show_table((">R", ">file / parameters", ">time / bare export", ">bare export"), rows)
    console.show_line(f"exported twice, the same bytes: {'yes' if identical_twice() else 'NO'}")


if __name__ == "__main__":
    main()
