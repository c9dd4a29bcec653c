"""The zoo: every backbone and reduction through the whole export, held against its plain model.

    python benchmarks/suites/zoo.py [--only TEXT] [--duration S] [--output FOLDER] [--table FILE]

For each row: an export at opsets 18, 20 and 23 with one picture and at opset 20 with four, each with its answers on 16
inputs against torch and every rule of the graph held (an export that breaks one is not written); the parser of
TensorRT-RTX on each, where that is installed; parameters, arithmetic and bytes; and the time on ONNX Runtime as a ratio
to the plain model, both in processes of their own, interleaved. Weights are random: accuracy is no part of it.

A finished row is kept in FOLDER and not done again; FILE gets the table of all of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgevit
from edgevit.benchmarks import summarise
from edgevit.errors import EdgevitError
from edgevit.files import atomic_write

OPSETS = (18, 20, 23)
TIMED_OPSET, MANY = 20, 4


@dataclass(frozen=True)
class Row:
    """A model, what it is held against, and how it is reduced where not by default."""

    model: str
    base: str | None = None
    schedule: str | None = None


VIT_S, DEIT_T, DEIT_S = "timm/vit_small_patch16_224", "timm/deit_tiny_patch16_224", "timm/deit_small_patch16_224"
DEIT_S_DISTILLED, VIT_B = "timm/deit_small_distilled_patch16_224", "timm/vit_base_patch16_224"
SWIN_T, MOBILEVIT_S, EFFICIENTVIT_B1 = "timm/swin_tiny_patch4_window7_224", "timm/mobilevit_s", "timm/efficientvit_b1"

ROWS = (
    *(Row(name) for name in (VIT_S, DEIT_T, DEIT_S, DEIT_S_DISTILLED, VIT_B, SWIN_T, MOBILEVIT_S, EFFICIENTVIT_B1)),
    Row("timm/efficientvit_m4"),
    Row("timm/efficientformer_l1"),
    Row("timm/tiny_vit_5m_224"),
    Row("dense-deit-s"),
    Row("tied-deit-s", "dense-deit-s"),
    Row(VIT_S.replace("timm", "ltm"), VIT_S),
    Row(SWIN_T.replace("timm", "ltm"), SWIN_T),
    Row(MOBILEVIT_S.replace("timm", "ltm"), MOBILEVIT_S),
    Row(EFFICIENTVIT_B1.replace("timm", "ltm"), EFFICIENTVIT_B1),
    Row(DEIT_T.replace("timm", "tome"), DEIT_T, "0,0,64,0,0,44,0,0,30,0,0,0"),
    Row(DEIT_S.replace("timm", "tome"), DEIT_S, "13"),
    Row(DEIT_S_DISTILLED.replace("timm", "tome"), DEIT_S_DISTILLED, "13"),
    Row(VIT_S.replace("timm", "tome"), VIT_S, "13:-0.5"),
    Row(VIT_B.replace("timm", "tome"), VIT_B, "16,16,16,16,12,12,12,12,8,8,8,8"),
    Row(DEIT_S.replace("timm", "dynamicvit"), DEIT_S),
    Row(DEIT_S.replace("timm", "evit"), DEIT_S),
    Row("recursive-deit-s", "dense-deit-s"),
    Row("tome/recursive-deit-s", "dense-deit-s"),
    Row("ltm/recursive-deit-s", "dense-deit-s"),
)


def exported(row: Row, folder: Path, opset: int = TIMED_OPSET, batch: int = 1) -> Any:
    """The bundle of a row."""
    name = f"{row.model.replace('/', '-')}-{opset}-{batch}"
    return edgevit.export_model(
        row.model, output=folder / name, schedule=row.schedule, opset=opset, batch_size=batch, force=True
    )


def rtx_says(graph: Path) -> str:
    """Whether TensorRT-RTX's parser takes a graph; its first complaint if not, nothing where it is not installed."""
    try:
        import tensorrt_rtx as trt
    except ImportError:
        return "not installed"
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    return "yes" if parser.parse(graph.read_bytes()) else f"no: {parser.get_error(0).desc()[:120]}"


def done(row: Row, folder: Path, duration_s: float) -> dict[str, Any]:
    """Everything about one row."""
    bundles = [exported(row, folder, opset) for opset in OPSETS] + [exported(row, folder, batch=MANY)]
    timed = bundles[OPSETS.index(TIMED_OPSET)]
    record: dict[str, Any] = {
        "parameters": timed.manifest.model.parameters,
        "gflops": timed.manifest.cost["flops"] / 1e9,
        "bytes": timed.manifest.files["model.onnx"].size_bytes,
        "error": max(bundle.manifest.parity.max_abs_error for bundle in bundles),
        "decisions": [f"{b.manifest.parity.decisions_agreed}/{b.manifest.parity.inputs}" for b in bundles],
        "opsets": [bundle.manifest.opset for bundle in bundles],
        "rtx": sorted({rtx_says(bundle.path / "model.onnx") for bundle in bundles}),
    }
    if row.base is not None:
        plain = exported(Row(row.base), folder)
        measurement = edgevit.measure([plain.path, timed.path], min_duration_s=duration_s)
        interval = summarise(measurement).comparisons[0].interval
        record |= {
            "flop_ratio": timed.manifest.cost["flops"] / plain.manifest.cost["flops"],
            "time_ratio": [interval.low, interval.ratio, interval.high],
        }
    for bundle in bundles:
        shutil.rmtree(bundle.path)
    return record


PREAMBLE = """# The zoo

Every backbone and reduction through the whole export, made by `make zoo`: each row at opsets 18, 20 and 23 with one
picture and at opset 20 with four, the rules of the graph held, decisions equal to torch's on all 16 inputs, the
largest difference of a logit in the table, and given to the parser of TensorRT-RTX. Time is ONNX Runtime's on a CPU
at batch 1 and opset 20, as a ratio to the plain model in one run of two interleaved processes, with its 95 %
interval. Weights are random. FLOPs count two for each multiply-add of products and convolutions, from the graph;
ratios are to the model without reduction, for `recursive-deit-s` and `tied-deit-s` to `dense-deit-s`.

"""


def table(records: dict[str, dict[str, Any]]) -> str:
    """The rows as Markdown."""
    names = ("model", "parameters", "GFLOPs", "ONNX", "largest error", "RTX parses", "FLOPs to plain", "time to plain")
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for row in ROWS:
        record = records.get(row.model)
        if record is None:
            continue
        against = ("", "")
        if "time_ratio" in record:
            low, ratio, high = record["time_ratio"]
            against = (f"{record['flop_ratio']:.2f}", f"{ratio:.2f} ({low:.2f} to {high:.2f})")
        name = f"`{row.model}`" + (f" `{row.schedule}`" if row.schedule else "")
        cells = (
            name,
            f"{record['parameters'] / 1e6:.2f} M",
            f"{record['gflops']:.2f}",
            f"{record['bytes'] / 1e6:.1f} MB",
            f"{record['error']:.1e}",
            "; ".join(record["rtx"]),
            *against,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Do the rows that are not done, and write the table of those that are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    parser.add_argument("--duration", type=float, default=6.0, help="seconds a candidate, at least")
    parser.add_argument("--output", type=Path, default=Path("runs/zoo"))
    parser.add_argument("--table", type=Path, default=Path("docs/zoo.md"))
    arguments = parser.parse_args()
    failed = False
    arguments.output.mkdir(parents=True, exist_ok=True)
    for row in ROWS:
        kept = arguments.output / f"{row.model.replace('/', '-')}.json"
        if kept.exists() or arguments.only not in row.model:
            continue
        print(row.model, flush=True)
        try:
            record = done(row, arguments.output, arguments.duration)
        except EdgevitError as error:
            print(f"  failed: {error}", flush=True)
            failed = True
            continue
        atomic_write(kept, json.dumps(record, indent=1).encode())
        print(f"  {record}", flush=True)
    records = {row.model: arguments.output / f"{row.model.replace('/', '-')}.json" for row in ROWS}
    text = table({name: json.loads(path.read_bytes()) for name, path in records.items() if path.exists()})
    print(text)
    atomic_write(arguments.table, (PREAMBLE + text).encode())
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
