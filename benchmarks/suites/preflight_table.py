"""Every graph against TensorRT: what each release is known to make of it, and the engine that TensorRT-RTX builds.

    python benchmarks/suites/preflight_table.py [--only TEXT] [--precision NAME]... [--calibration-data DIR]
        [--calibration-samples N] [--output FOLDER] [--table FILE]

For each shipped model and each row of the zoo, in each precision: one export for `rtx` at opset 20, the facts of
TensorRT 10.3, 10.13, 11 and RTX 1.7 held against that one file, and the engine that TensorRT-RTX builds of it, with no
GPU. The graphs of timm need the environment with timm. A finished row is kept in FOLDER and not done again; FILE gets
the table of all of them between its two markers, and that of the facts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import ROWS

import edgevit
from edgevit.errors import EdgevitError
from edgevit.export.preflight import preflight
from edgevit.export.trt_facts import FACTS
from edgevit.export.trt_releases import RELEASES
from edgevit.files import atomic_write


@dataclass(frozen=True)
class Graph:
    """A model with how it is routed or reduced where not by default."""

    model: str
    routing: str | None = None
    schedule: str | None = None


GRAPHS = (
    Graph("steel-dense"),
    Graph("steel-recursive"),
    Graph("steel-recursive", routing="mask"),
    Graph("steel-adaptive", routing="mask"),
    Graph("steel-ltm"),
    Graph("steel-tome"),
    *(Graph(row.model, schedule=row.schedule) for row in ROWS),
)
PRECISIONS = ("fp32", "fp16", "int8")
GRAPHS_START, FACTS_START, END = "<!-- graphs -->", "<!-- facts -->", "<!-- end -->"
# Run in a process of its own: a builder that crashes takes a row with it and not the run.
BUILD = """
import sys, tensorrt_rtx as trt
logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
network = builder.create_network(0)
parser = trt.OnnxParser(network, logger)
if not parser.parse(open(sys.argv[1], "rb").read()):
    sys.exit("parser: " + parser.get_error(0).desc())
engine = builder.build_serialized_network(network, builder.create_builder_config())
sys.exit("no engine") if engine is None else print(engine.nbytes)
"""


def exported(row: Graph, precision: str, data: Path | None, samples: int, folder: Path) -> Any:
    """The bundle of a row."""
    return edgevit.export_model(
        row.model,
        output=folder / "bundle",
        target="rtx",
        routing=row.routing,
        schedule=row.schedule,
        precision=precision,
        calibration_data=data if precision != "fp32" else None,
        calibration_samples=samples,
        force=True,
    )


def done(row: Graph, precision: str, data: Path | None, samples: int, folder: Path) -> dict[str, Any]:
    """Everything about one row in one precision."""
    bundle = exported(row, precision, data, samples, folder)
    graph = bundle.read("model.onnx")
    record: dict[str, Any] = {"bytes": len(graph), "sha256": bundle.manifest.files["model.onnx"].sha256}
    for release in RELEASES:
        found = preflight(graph, release)
        record[release.name] = [f"{finding.severity}: {finding.says}" for finding in found]
    built = subprocess.run(
        [sys.executable, "-c", BUILD, str(bundle.path / "model.onnx")], capture_output=True, text=True, check=False
    )
    said = built.stderr.strip().splitlines()
    record["engine_bytes"] = int(built.stdout) if built.returncode == 0 else None
    record["build_error"] = None if built.returncode == 0 else (said[-1] if said else f"status {built.returncode}")
    shutil.rmtree(bundle.path)
    return record


def verdict(said: list[str]) -> str:
    """`passes`, or the worst that is known."""
    worst = [finding.partition(":")[0] for finding in said]
    for severity in ("refused", "falls back", "slower", "unknown"):
        if severity in worst:
            return f"**{severity}**" if severity == "refused" else f"passes, {worst.count(severity)} {severity}"
    return "passes"


def table(records: dict[tuple[str, str], dict[str, Any]]) -> str:
    """The rows as Markdown."""
    heads = ("model", "precision", "10.3", "10.13", "11", "RTX 1.7", "RTX builds", "engine", "ONNX", "engine - ONNX")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for (name, precision), record in records.items():
        engine = record["engine_bytes"]
        cells = (
            name,
            precision,
            *(verdict(record[release.name]) for release in RELEASES),
            "yes" if engine is not None else f"no: {record['build_error']}",
            "" if engine is None else f"{engine / 1e6:.1f} MB",
            f"{record['bytes'] / 1e6:.1f} MB",
            "" if engine is None else f"{(engine - record['bytes']) / 1e6:+.1f} MB",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def facts() -> str:
    """What `doctor` holds a graph against, as Markdown."""
    lines = ["| a graph that has this | 10.3 | 10.13 | 11 | RTX 1.7 | known from |", "|---" * 6 + "|"]
    for fact in FACTS:
        lines.append(f"| {fact.says} | {' | '.join(cell or '' for cell in fact.on)} | {fact.source} |")
    return "\n".join(lines) + "\n"


def put(page: str, start: str, text: str) -> str:
    """A page with a text in place of what stood after a marker."""
    before, _, rest = page.partition(start)
    return f"{before}{start}\n\n{text}\n{END}{rest.partition(END)[2]}"


def titled(row: Graph) -> str:
    """A row's name, with how it is routed or reduced."""
    how = row.routing or row.schedule
    return f"`{row.model}`" + (f" `{how}`" if how else "")


def main() -> None:
    """Do the rows that are not done, and write the table of those that are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="again for more; all if not given")
    parser.add_argument("--calibration-data", type=Path, help="pictures for fp16 and int8")
    parser.add_argument("--calibration-samples", type=int, default=128, help="how many of them are looked at")
    parser.add_argument("--output", type=Path, default=Path("runs/preflight"))
    parser.add_argument("--table", type=Path, default=Path("docs/tensorrt.md"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    failed = False
    records = {}
    for row in GRAPHS:
        for precision in PRECISIONS:
            name = "-".join([row.model.replace("/", "-"), *([row.routing] if row.routing else []), precision])
            kept = arguments.output / f"{name}.json"
            wanted = arguments.only in row.model and precision in (arguments.precision or PRECISIONS)
            if wanted and not kept.exists():
                print(titled(row), precision, flush=True)
                try:
                    record = done(
                        row, precision, arguments.calibration_data, arguments.calibration_samples, arguments.output
                    )
                except EdgevitError as error:
                    print(f"  failed: {error}", flush=True)
                    failed = True
                    continue
                atomic_write(kept, json.dumps(record, indent=1).encode())
            if kept.exists():
                records[titled(row), precision] = json.loads(kept.read_bytes())
    text = table(records)
    print(text)
    page = put(arguments.table.read_text(encoding="utf-8"), GRAPHS_START, text)
    atomic_write(arguments.table, put(page, FACTS_START, facts()).encode())
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
