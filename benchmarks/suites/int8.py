"""int8 on ONNX Runtime: what edgevit's graphs and those of ONNX Runtime's own quantizer gain, and what they change.

    python benchmarks/suites/int8.py CALIBRATION VALIDATION [--samples N] [--duration S] [--only TEXT] [--output FOLDER]

CALIBRATION holds pictures, VALIDATION a folder of them per class. For each shipped model: decisions and tokens alike
with fp32 of the same graph, accuracy, bytes and how the products multiply. For the benchmark models (random weights):
the time as a ratio to fp32, one process a candidate, interleaved.

Why not `quantize_static`: asked for linears it rounds attention's products, the routers and the head as well, and every
result, not only what a linear reads. On steel-recursive with 231 pictures of X-SDD and 32 to calibrate on it changed 2
decisions (left its own choice 3) and 5, 5 and 14 % of the tokens of the three routed steps; the passes here none and
0.3, 0.3 and 0.9 %. And it puts a Gemm's bias into int32, which TensorRT's parser refuses.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from edgevit import console
from edgevit.benchmarks import Candidate, Settings, measure, measurement_to_json, summarise
from edgevit.export.calibration import CalibrationBatches, calibration_batches, calibration_paths
from edgevit.export.linears import activations_of
from edgevit.export.pipeline import build_graph
from edgevit.export.quantize import quantize_linears
from edgevit.export.ranges import measure_ranges
from edgevit.export.settings import ExportSettings
from edgevit.files import atomic_write
from edgevit.image_folder import ImageFolder
from edgevit.models.opening import open_model
from edgevit.models.source import ModelSource
from edgevit.runtimes.ort import OrtRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))  # which the candidates' processes take over
from static_int8 import quantize_static

SHIPPED = (
    ("steel-dense", "dense"),
    ("steel-recursive", "topk"),
    ("steel-recursive", "mask"),
    ("steel-adaptive", "mask"),
    ("steel-ltm", None),
    ("steel-tome", None),
)
TIMED = (("dense-deit-s", "dense"), ("recursive-deit-s", "topk"))
FEW = 16  # pictures for the quantizer that keeps all activations of all of them


def main() -> None:
    """Make the graphs, run all pictures through each, time some; print a table each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("calibration", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("--samples", type=int, default=128, help="calibration pictures")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds a candidate, at least; 0 to time nothing")
    parser.add_argument("--only", default="", help="models whose name holds this text")
    parser.add_argument("--output", type=Path, default=Path("runs/int8"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    validation = ImageFolder.open(arguments.validation)
    heads = ("model", "graph", ">decisions", ">tokens a step", ">accuracy", ">MB", "products")
    rows: list[tuple[str, ...]] = []
    for model, routing in SHIPPED:
        if arguments.only in model:
            source = open_model(model)
            graphs = made(source, routing, arguments)
            rows += compared(f"{model} {routing or ''}".strip(), graphs, source, validation)
    console.show_table(heads, rows)
    for model, routing in TIMED:
        if arguments.only in model and arguments.duration > 0:
            timed(f"{model}-{routing}", made(open_model(model), routing, arguments), arguments)


def made(source: ModelSource, routing: str | None, arguments: argparse.Namespace) -> dict[str, bytes]:
    """The fp32 graph of a model, and those in int8, by how they were made."""
    # As int8 is written into it; an export in fp32 is in a form of its own besides.
    settings = ExportSettings(routing=routing, precision="int8", calibration_data=arguments.calibration)  # type: ignore[arg-type]
    fp32 = build_graph(source, settings).onnx
    paths = calibration_paths(arguments.calibration, arguments.samples)
    batches = calibration_batches(paths, source.preprocess, 1)
    model = ir.from_proto(onnx.load_from_string(fp32))
    name = f"{source.name}-{routing}".replace("/", "-")
    ranges = measure_ranges(
        model,
        batches,
        OrtRunner,
        histograms=activations_of(model),
        state=arguments.output / f"{name}.npz",
        note=console.show_line,
    )
    graphs = {"fp32": fp32}
    for label, options in (
        ("int8", {}),
        ("7-bit weights", {"reduce_range": True}),
        ("uint8", {"activations": "uint8"}),
    ):
        changed = ir.from_proto(onnx.load_from_string(fp32))
        quantize_linears(changed, ranges, **options)  # type: ignore[arg-type]
        graphs[label] = ir.to_proto(changed).SerializeToString(deterministic=True)
    few = CalibrationBatches(paths[:: max(len(paths) // FEW, 1)], source.preprocess, 1)
    graphs["quantize_static, linears"] = quantize_static(fp32, few, linears_only=True)
    graphs["quantize_static"] = quantize_static(fp32, few, linears_only=False)
    return graphs


def compared(
    name: str, graphs: dict[str, bytes], source: ModelSource, validation: ImageFolder
) -> Iterator[tuple[str, ...]]:
    """A row for each graph: what it answers against fp32 of the same model."""
    images = [source.preprocess.batch([path]) for path, _ in validation.items]
    truth = np.array([source.labels.index(validation.labels[label]) for _, label in validation.items])
    reference: dict[str, np.ndarray] = {}
    for label, graph in graphs.items():
        with OrtRunner(graph) as runner:
            outputs = [runner(image) for image in images]
        answers = {key: np.concatenate([output[key] for output in outputs]) for key in outputs[0]}
        reference = reference or answers
        decided, wanted = answers["logits"].argmax(axis=1), reference["logits"].argmax(axis=1)
        yield (
            name,
            label,
            f"{(decided == wanted).sum()} of {len(truth)}",
            " ".join(f"{share:.4f}" for share in tokens_alike(reference, answers)),
            f"{(decided == truth).mean():.4f}",
            f"{len(graph) / 1e6:.2f}",
            products(graph),
        )


def tokens_alike(reference: dict[str, np.ndarray], answers: dict[str, np.ndarray]) -> list[float]:
    """For each step after the first the share of its tokens that are the same, on average over the pictures."""
    if "depth" not in reference:
        return []
    shares = []
    for step in range(1, int(reference["depth"].max())):
        wanted, got = reference["depth"] > step, answers["depth"] > step
        most = np.maximum(np.maximum(wanted.sum(axis=1), got.sum(axis=1)), 1)
        shares.append(float(((wanted & got).sum(axis=1) / most).mean()))
    return shares


def products(graph: bytes) -> str:
    """What the products of the graph take: stored int8, two rounded activations, or floats; and int32 biases."""
    proto = onnx.load_from_string(graph).graph
    stored = {tensor.name: tensor.data_type for tensor in proto.initializer}
    makers = {output: node for node in proto.node for output in node.output}
    kinds: Counter[str] = Counter()
    for node in proto.node:
        if node.op_type in ("MatMul", "Gemm"):
            maker = makers.get(node.input[1])
            rounded = maker is not None and maker.op_type == "DequantizeLinear"
            kinds["float" if not rounded else "int8" if maker.input[0] in stored else "int8 attention"] += 1  # type: ignore[union-attr]
            if len(node.input) > 2 and (adder := makers.get(node.input[2])) is not None:
                kinds["int32 bias"] += stored.get(adder.input[0]) == onnx.TensorProto.INT32
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)


def timed(name: str, graphs: dict[str, bytes], arguments: argparse.Namespace) -> None:
    """Time the graphs of a model side by side, and print each as a ratio to fp32."""
    candidates = []
    for number, (label, graph) in enumerate(graphs.items()):
        path = (arguments.output / f"{name}-{number}.onnx").resolve()
        atomic_write(path, graph)
        candidates.append(Candidate(name=label, factory="static_int8:ort", arguments={"path": str(path)}))
    measurement = measure(candidates, Settings(min_duration_s=arguments.duration))
    atomic_write(arguments.output / f"{name}.json", measurement_to_json(measurement))
    summary = summarise(measurement)
    rows = [
        (label, f"{len(graph) / 1e6:.2f}", f"{time.ratio:.3f} ({time.low:.3f} to {time.high:.3f})")
        for (label, graph), time in zip(
            list(graphs.items())[1:], (comparison.interval for comparison in summary.comparisons), strict=True
        )
    ]
    console.show_table((f"{name} against fp32", ">MB", ">time"), rows)
    for check in summary.checks:
        console.show_line(str(check))


if __name__ == "__main__":
    main()
