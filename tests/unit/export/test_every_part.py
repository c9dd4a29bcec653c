"""Graphs of a model in which every part tells: sharp attention, no bias of 0, no two norms alike, as after a training.

At the start of a training biases are 0 and norms 1, so that a graph could leave them out or mix them up unseen.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from conftest import TINY, source_of
from onnx import numpy_helper
from torch import nn

from edgevit.export.golden import verification_inputs
from edgevit.export.pipeline import build_graph
from edgevit.export.reference import golden_samples
from edgevit.export.settings import ExportSettings
from edgevit.models.recursive import RecursiveConfig, RecursiveViT, dense_twin
from edgevit.models.source import ModelSource
from edgevit.parity import compare
from edgevit.runtimes.ort import OrtRunner

MODES = [("topk", None), ("mask", "top-k"), ("mask", "threshold"), ("adaptive", None)]


def spread(config: RecursiveConfig) -> ModelSource:
    torch.manual_seed(7)
    model = RecursiveViT(config).eval()
    for name, parameter in model.named_parameters():
        if name.startswith("routers"):
            nn.init.normal_(parameter, std=1.0)
        elif name.startswith("blocks"):
            scale = name.rpartition(".")[2] == "weight" and parameter.dim() == 1
            nn.init.normal_(parameter, 1.0 if scale else 0.0, 0.25)
    return source_of(model)


def parity_of(source: ModelSource, graph_bytes: bytes, routing):
    names, images = verification_inputs(source.preprocess)
    golden = golden_samples(source.module, routing, names, images)
    with OrtRunner(graph_bytes) as runner:
        return compare(golden, runner, 1e-4, 1e-4)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("opset", [20, 23])
@pytest.mark.parametrize("mode, selection", MODES)
def test_a_graph_answers_as_its_model(mode: str, selection: str | None, opset: int, batch: int) -> None:
    source = spread(TINY)
    settings = ExportSettings(routing=mode, selection=selection, opset=opset, batch_size=batch)  # type: ignore[arg-type]
    graph = build_graph(source, settings)
    assert parity_of(source, graph.onnx, graph.routing).faults == ()


def test_a_dense_graph_answers_as_its_model_and_has_its_biases_in_gemms() -> None:
    source = spread(replace(dense_twin(TINY), pool="cls"))
    graph = build_graph(source, ExportSettings())
    assert parity_of(source, graph.onnx, graph.routing).faults == ()
    used = [node.op_type for node in onnx.load_from_string(graph.onnx).graph.node]
    blocks = dense_twin(TINY).depth
    assert (used.count("Attention"), used.count("Gemm")) == (blocks, 4 * blocks + 1)


@pytest.mark.parametrize("part", ["attention.qkv.bias", "attention.out.bias", "norm1", "norm2", "mlp.0.bias"])
def test_a_graph_with_a_part_of_another_value_is_told_from_it(part: str) -> None:
    source = spread(TINY)
    graph = build_graph(source, ExportSettings(routing="mask"))
    model = onnx.load_from_string(graph.onnx)
    changed = [tensor for tensor in model.graph.initializer if part in tensor.name and "blocks.1" in tensor.name]
    assert changed, f"no initializer of {part}"
    for tensor in changed[:1]:
        tensor.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(tensor), 1), tensor.name))
    assert parity_of(source, model.SerializeToString(), graph.routing).faults
