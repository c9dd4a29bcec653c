"""Reduced models beside the usual ways to run them, in one run; and what a naive export makes of such models.

    python benchmarks/suites/peers.py [--duration S] [--output FOLDER]

Needs timm; OpenVINO is compared where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import edgevit
from edgevit import console
from edgevit.benchmarks import Candidate, Settings, measure, summarise

PEERS = Path(__file__).parents[1] / "peers"
PAIRS = (
    ("timm/deit_small_patch16_224", "tome/deit_small_patch16_224", "13"),
    ("timm/vit_small_patch16_224", "ltm/vit_small_patch16_224", None),
)


def main() -> None:
    """Export, measure, print one table a pair and one of naive exports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration", type=float, default=8.0, help="seconds a candidate, at least")
    parser.add_argument("--output", type=Path, default=Path("runs/peers"))
    arguments = parser.parse_args()
    sys.path.insert(0, str(PEERS))  # which the candidates' processes take over
    for plain, reduced, schedule in PAIRS:
        show(compared(plain, reduced, schedule, arguments.output, arguments.duration))
    console.show_table(("naive", "torch.onnx.export says"), naive_exports())


def compared(plain: str, reduced: str, schedule: str | None, folder: Path, duration_s: float) -> list[tuple[str, ...]]:
    """Ratio of every candidate to the plain model on ONNX Runtime."""
    bundles = [
        edgevit.export_model(name, output=folder / name.replace("/", "-"), schedule=text, force=True)
        for name, text in ((plain, None), (reduced, schedule))
    ]
    candidates = [
        Candidate(
            name=f"{bundle.manifest.name}, edgevit",
            factory="edgevit.runtimes.choose:open_runner",
            arguments={"bundle": str(bundle.path), "runtime": "auto", "threads": None},
        )
        for bundle in bundles
    ]
    for name, text, bundle in ((plain, None, bundles[0]), (reduced, schedule, bundles[1])):
        for way in ("naive_onnx", "torch_eager", "torch_compiled"):
            candidates.append(
                Candidate(name=f"{name}, {way}", factory=f"runners:{way}", arguments={"model": name, "schedule": text})
            )
        if importlib.util.find_spec("openvino"):
            graph = str((bundle.path / "model.onnx").resolve())
            candidates.append(
                Candidate(name=f"{name}, openvino", factory="runners:openvino", arguments={"path": graph})
            )
    measurement = measure(candidates, Settings(min_duration_s=duration_s, load_timeout_s=300.0, warmup_cap_s=60.0))
    failures = [(result.candidate.name, str(result.failure)) for result in measurement.results if result.failure]
    rows = [(candidates[0].name, "1")]
    for comparison in summarise(measurement).comparisons:
        interval = comparison.interval
        rows.append((comparison.candidate, f"{interval.ratio:.2f} ({interval.low:.2f} to {interval.high:.2f})"))
    return rows + failures


def show(rows: list[tuple[str, ...]]) -> None:
    """Print one table."""
    console.show_table(("candidate", ">time"), rows)


def naive_exports() -> list[tuple[str, str]]:
    """What becomes of token reduction as it is usually written: export, ONNX Runtime, TensorRT-RTX's parser."""
    import torch
    from naive import MaskedPruning, ScatteredMerging

    return [
        (type(module).__name__, fate(module.eval(), torch.randn(1, 197, 64)))
        for module in (ScatteredMerging(13, 3), MaskedPruning(64))
    ]


def fate(module, x) -> str:
    """The first thing that goes wrong with a module on its way, or what it comes to."""
    import onnxruntime
    import torch

    try:
        program = torch.onnx.export(module, (x,), dynamo=True, verbose=False)
    except Exception as error:  # what it says is the finding
        return f"export: {reason(error)}"
    graph = program.model.graph
    hard = sorted({node.op_type for node in graph} & {"NonZero", "ScatterElements", "GatherElements"})
    said = [f"exports with {', '.join(hard) or 'no hard operator'}, output {graph.outputs[0].shape}"]
    data = program.model_proto.SerializeToString()
    try:
        wanted = module(x)
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        got = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
        said.append(f"ONNX Runtime differs by {abs(got - wanted.detach().numpy()).max():.1e}")
    except Exception as error:  # likewise
        said.append(f"a second run: {reason(error)}")
    if importlib.util.find_spec("tensorrt_rtx"):
        import tensorrt_rtx as trt

        logger = trt.Logger(trt.Logger.ERROR)
        network = trt.Builder(logger).create_network(0)
        parser = trt.OnnxParser(network, logger)
        taken = parser.parse(data)
        said.append("TensorRT-RTX parses it" if taken else f"TensorRT-RTX: {parser.get_error(0).desc()[:100]}")
    return "; ".join(said)


def reason(error: BaseException) -> str:
    """The innermost cause, in a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


if __name__ == "__main__":
    main()
