"""Time against active tokens: an adaptive graph beside the top-k graph of each size, the masked and the plain one.

    python benchmarks/suites/adaptive.py [--data FOLDER [--calibration FOLDER]] [--output FOLDER] [--duration S]
        [--picture FILE]

At DeiT-S width, batch 1, ONNX Runtime. The active tokens are forced by thresholds that `edgevit calibrate` sets on the
one picture that is run. Beside them run a plain export of the masked model, which computes every token, and one large
product, whose rate is what the machine can do at most. With a folder per class in FOLDER the shipped models are judged
and timed on its pictures too, steel-adaptive also with the sizes that --budgets auto chooses on others.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from time_by_tokens import Curve, Point, draw

import edgevit
from edgevit import console
from edgevit.benchmarks import Candidate, Settings, Summary, measure, measurement_to_json, summarise
from edgevit.bundle import Bundle
from edgevit.files import atomic_write
from edgevit.models.opening import open_model
from edgevit.models.thresholds import with_thresholds
from edgevit.samples import surface

_DENSE, _RECURSIVE = "dense-deit-s", "recursive-deit-s"
_SHARES = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
_PEAK_SIDE = 1024  # of a product that no cache or call overhead slows down

# (name, what is exported): the shipped models, the plain one first.
_SHIPPED = (
    ("steel-dense", {"routing": "dense"}),
    ("steel-recursive as topk", {"routing": "topk"}),
    ("steel-recursive as adaptive", {"routing": "adaptive"}),
    ("steel-adaptive as topk", {"routing": "topk"}),
    ("steel-adaptive as adaptive", {"routing": "adaptive"}),
)


@dataclass(frozen=True)
class Forced:
    """Bundles in which the same number of tokens is active in every step after the first."""

    tokens: int
    adaptive: Bundle
    topk: Bundle | None


def forced(folder: Path, picture: Path) -> list[Forced]:
    """One pair of bundles for each share of the tokens; top-k cannot take none."""
    module = open_model(_RECURSIVE).module
    patches, later = module.config.tokens, module.config.recursions - 1
    sizes = [round(share * patches) for share in _SHARES]
    ladder = edgevit.export_model(_RECURSIVE, output=folder / "ladder", routing="adaptive", budgets=sizes, force=True)
    pairs = []
    for size in sizes:
        out = folder / f"adaptive-{size}"
        edgevit.calibrate(ladder.path, picture.parent, output=out, patches=(size,) * later, force=True)
        topk = None
        if size:
            source = open_model(_RECURSIVE).module
            shares = (1.0, *(size / patches,) * later)
            source.config = type(source.config)(**{**vars(source.config), "capacities": shares})
            topk = edgevit.export_model(source, output=folder / f"topk-{size}", routing="topk", force=True)
        pairs.append(Forced(size, Bundle.open(out), topk))
    return pairs


def naive_masked() -> object:
    """`torch.onnx.export` of the masked model as it stands, run by ONNX Runtime: all tokens at every step."""
    import io
    from contextlib import redirect_stderr, redirect_stdout

    import torch

    from edgevit.models.deploy import deploy, routing_spec
    from edgevit.runtimes.ort import OrtRunner

    source = open_model(_RECURSIVE)
    module = with_thresholds(source.module, (0.0,) * (source.module.config.recursions - 1))
    size = source.preprocess.height
    masked = deploy(module, routing_spec(module, "mask", "threshold"), trace=False)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        program = torch.onnx.export(masked, (torch.zeros(1, 3, size, size),), dynamo=True, input_names=["image"])
    return OrtRunner(program.model_proto.SerializeToString())


def large_product() -> object:
    """One MatMul of two square matrices, of which one is the weight."""
    from edgevit.runtimes.ort import OrtRunner

    side = _PEAK_SIDE
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [side, side]) for name in ("image", "product")]
    weight = numpy_helper.from_array(np.full((side, side), 0.5, np.float32), "weight")
    graph = helper.make_graph([helper.make_node("MatMul", ["image", "weight"], ["product"])], "g", *map(list, [
        ends[:1], ends[1:], [weight],
    ]))  # fmt: skip
    opset = [helper.make_opsetid("", 20)]
    return OrtRunner(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())


def candidate(bundle: Bundle, images: Path | None, name: str = "") -> Candidate:
    arguments = {"bundle": str(bundle.path)}
    return Candidate(
        name=name or bundle.path.name,
        factory="edgevit.runtimes.choose:open_runner",
        arguments=arguments,
        images=images,
    )


def curve(folder: Path, duration_s: float) -> Curve:
    """Measure the forced bundles in one run, print the table, and return what the picture shows."""
    pictures = folder / "picture"
    pictures.mkdir(parents=True, exist_ok=True)
    picture = pictures / "surface.png"
    dense = edgevit.export_model(_DENSE, output=folder / "dense", force=True)
    size = dense.manifest.preprocess.height
    surface("surface_scratch", seed=1, size=(size, size)).save(picture)
    pairs = forced(folder, picture)
    module = open_model(_RECURSIVE).module
    calibrated = with_thresholds(module, (0.0,) * (module.config.recursions - 1))
    mask = edgevit.export_model(calibrated, output=folder / "mask", routing="mask", selection="threshold", force=True)
    images = folder / "picture.npy"
    np.save(images, dense.manifest.preprocess(picture)[None])
    here = str(Path(__file__).stem)
    candidates = [
        candidate(dense, images),
        candidate(mask, images),
        Candidate(name="naive", factory=f"{here}:naive_masked", images=images),
        *(candidate(pair.adaptive, images) for pair in pairs),
        *(candidate(pair.topk, images) for pair in pairs if pair.topk is not None),
    ]
    summary = timed(candidates, folder / "curve.json", duration_s)
    medians = {one.name: one.median_ns for one in summary.candidates}
    ratios = {one.candidate: one.interval for one in summary.comparisons}

    product = Candidate(name="large product", factory=f"{here}:large_product")
    rated = timed([candidate(dense, None), product], folder / "peak.json", duration_s)
    by_side = {one.name: one.median_ns for one in rated.candidates}
    # FLOPs a nanosecond, at the speed that the machine had when the others ran.
    peak = 2 * _PEAK_SIDE**3 / by_side["large product"] * by_side["dense"] / medians["dense"]
    tokens = pairs[-1].tokens
    rows, adaptive, topk = [], [], []
    for pair in pairs:
        ratio = ratios[pair.adaptive.path.name]
        adaptive.append(Point(pair.tokens / tokens, ratio.ratio, ratio.low, ratio.high))
        to_topk = "-"
        if pair.topk is not None:
            other = ratios[pair.topk.path.name]
            topk.append(Point(pair.tokens / tokens, other.ratio, other.low, other.high))
            to_topk = f"{ratio.ratio / other.ratio:.3f}"
        rows.append((f"{pair.tokens} of {tokens}", f"{ratio.ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f})", to_topk))
    console.show_table(("active patches", ">adaptive, to dense", ">to topk of that size"), rows)
    masked, naive = ratios["mask"], ratios["naive"]
    console.show_line(f"mask {masked.ratio:.3f}, naive export {naive.ratio:.3f} of dense")
    console.show_line(f"adaptive with all active to mask: {adaptive[-1].ratio / masked.ratio:.3f}")
    graphs = [("dense", dense), ("mask", mask), *((p.topk.path.name, p.topk) for p in pairs if p.topk is not None)]
    for name, bundle in graphs:
        flops = bundle.manifest.cost["flops"]
        time = medians[name] / medians["dense"]
        share = flops / dense.manifest.cost["flops"]
        console.show_line(
            f"{name}: {flops / medians[name] / peak:.2f} of the rate of a large product ({peak:.0f} GFLOP/s); FLOPs "
            f"{share:.3f}, time {time:.3f}, share of the saving that became time {share / time:.2f}"
        )
    return Curve(tuple(adaptive), tuple(topk), naive.ratio)


def timed(candidates: Sequence[Candidate], file: Path, duration_s: float) -> Summary:
    """One run of all candidates, kept in `file`, whatever speaks against it said."""
    measurement = measure(candidates, Settings(min_duration_s=duration_s, pilot_rounds=0))
    atomic_write(file, measurement_to_json(measurement))
    summary = summarise(measurement)
    for check in summary.checks:
        console.show_line(str(check))
    return summary


def shipped(folder: Path, data: Path, calibration: Path | None, duration_s: float) -> None:
    """Judge and time the shipped models on labelled pictures, and print what each picture costs at most."""
    bundles = []
    models = list(_SHIPPED)
    if calibration is not None:
        chosen = {"routing": "adaptive", "budgets": "auto", "calibration_data": calibration, "calibration_samples": 256}
        models.append(("steel-adaptive as adaptive, sizes chosen", chosen))
    for name, settings in models:
        out = folder / name.replace(" ", "-")
        bundles.append(edgevit.export_model(name.split()[0], output=out, force=True, **settings))
    judged = [edgevit.evaluate(bundle.path, data) for bundle in bundles]
    measurement = edgevit.measure([bundle.path for bundle in bundles], data=data, min_duration_s=duration_s)
    atomic_write(folder / "shipped.json", measurement_to_json(measurement))
    summary = summarise(measurement)
    plain = summary.candidates[0]
    rows = []
    for (name, _), result, one, measured in zip(models, judged, summary.candidates, measurement.results, strict=True):
        latency = measured.measured.latency_ns
        rows.append(
            (
                name,
                f"{result.evaluation.accuracy:.3f}",
                ", ".join(f"{mean:.0f}" for mean in result.mean_patches),
                f"{one.mean_ns / plain.mean_ns:.3f}",
                f"{one.median_ns / plain.median_ns:.3f}",
                f"{np.percentile(latency, 99) / plain.mean_ns:.3f}",
                f"{one.max_ns / plain.mean_ns:.3f}",
            )
        )
    columns = ("", ">accuracy", ">patches a step", ">mean", ">median", ">p99", ">slowest, to the plain mean")
    console.show_table(columns, rows)
    for check in summary.checks:
        console.show_line(str(check))


def main() -> None:
    """Export, measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder per class; without it the shipped models are left out")
    parser.add_argument("--calibration", type=Path, help="pictures that sizes are chosen on")
    parser.add_argument("--output", type=Path, default=Path("runs/adaptive"))
    parser.add_argument("--duration", type=float, default=10.0, help="seconds a candidate, at least")
    parser.add_argument("--picture", type=Path, default=Path("docs/adaptive.svg"))
    parser.add_argument("--only", choices=("curve", "shipped"))
    arguments = parser.parse_args()
    # Children import this file as a module to build what no bundle holds.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    if arguments.only != "shipped":
        atomic_write(arguments.picture, draw(curve(arguments.output, arguments.duration)).encode())
        console.show_line(f"picture in {arguments.picture}")
    if arguments.data is not None and arguments.only != "curve":
        shipped(arguments.output, arguments.data, arguments.calibration, arguments.duration)


if __name__ == "__main__":
    main()
