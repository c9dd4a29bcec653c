"""Every method on a tiny model through the whole export: opsets, batches, the rules, ONNX Runtime, TensorRT-RTX."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the export extra needs torch")
pytest.importorskip("onnxruntime", reason="ONNX Runtime runs the exported graph")

import onnx

from edgevit.export.pipeline import export_bundle
from edgevit.export.settings import ExportSettings
from edgevit.models.architecture import Architecture, seeded
from edgevit.models.recursive import EarlyMerge, RecursiveConfig, dense_twin
from edgevit.models.reduced_config import ReducedConfig
from edgevit.models.reduction import ReducedAt
from edgevit.models.source import ModelSource
from edgevit.preprocess import Preprocess
from edgevit.runtimes.ort import OrtRunner

SIDE, CLASSES = 32, 3
RECURSIVE = RecursiveConfig(
    image_size=SIDE, patch_size=8, classes=CLASSES, width=16, heads=2, depth=1, recursions=3,
    capacities=(1.0, 0.5, 0.25), per_step_norm=True, pool="cls+mean",
)  # fmt: skip
DENSE = dense_twin(RECURSIVE)
TWICE = (ReducedAt(0, 12), ReducedAt(1, 7))

MODELS: dict[str, Architecture] = {
    "dense": DENSE,
    "recursive": RECURSIVE,
    "token choice": replace(RECURSIVE, router="token_choice"),
    "tome": ReducedConfig(base=DENSE, method="tome", schedule=TWICE),
    "ltm": ReducedConfig(base=DENSE, method="ltm", schedule=TWICE),
    "ltm hard": ReducedConfig(base=DENSE, method="ltm", schedule=TWICE, variant="hard"),
    "dynamicvit": ReducedConfig(base=DENSE, method="dynamicvit", schedule=TWICE),
    "evit": ReducedConfig(base=DENSE, method="evit", schedule=TWICE),
    "tome before steps": replace(RECURSIVE, early_merge=EarlyMerge(method="tome", tokens=9)),
    "ltm before steps": replace(RECURSIVE, early_merge=EarlyMerge(method="ltm", tokens=9)),
}
FORBIDDEN = {"NonZero", "Loop", "Scan", "If", "Unique", "Compress", "GatherElements"}
# What a reduction may not need either, to match, reorder and sum its tokens.
FORBIDDEN_IN_REDUCED = {"ArgMax", "ArgMin", "Scatter", "ScatterElements", "ScatterND"}


def source(name: str) -> ModelSource:
    preprocess = Preprocess(height=SIDE, width=SIDE, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    return ModelSource(name, seeded(MODELS[name]), tuple(f"class {i}" for i in range(CLASSES)), preprocess)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


def assert_parses(graph: bytes) -> None:
    """TensorRT-RTX's own parser takes the graph; it needs no GPU for that."""
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed, so its parser is not asked")
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(graph), "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))


@pytest.mark.parametrize("opset, batch", [(18, 1), (20, 1), (23, 1), (20, 4)])
@pytest.mark.parametrize("name", MODELS)
def test_a_method_survives_the_export(name: str, opset: int, batch: int, tmp_path: Path) -> None:
    settings = ExportSettings(opset=opset, batch_size=batch)
    bundle = export_bundle(source(name), settings, tmp_path / "bundle", open_graph=OrtRunner)
    parity = bundle.manifest.parity
    assert parity is not None
    assert parity.inputs == 16 and parity.decisions_agreed == 16 and parity.max_abs_error < 1e-4
    data = bundle.read("model.onnx")
    model = onnx.load_from_string(data)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == opset, "read back from the file"
    used = {node.op_type for node in nodes(model.graph)}
    routing = bundle.manifest.routing
    adaptive = routing is not None and routing.mode == "adaptive"  # a ladder of branches, for ONNX Runtime alone
    assert ("If" in used) == adaptive
    assert not used & (FORBIDDEN - {"If"})
    if isinstance(MODELS[name], ReducedConfig):
        assert not used & FORBIDDEN_IN_REDUCED
    if not adaptive:
        assert_parses(data)
