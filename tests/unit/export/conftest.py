"""A tiny routed model and its graphs, traced once for all tests of the exporter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from edgevit.export.pipeline import Graph, build_graph
from edgevit.export.settings import ExportSettings
from edgevit.models.recursive import RecursiveConfig, RecursiveViT, dense_twin
from edgevit.models.source import ModelSource
from edgevit.preprocess import Preprocess
from edgevit.samples import surface

sys.path.insert(0, str(Path(__file__).parent))  # for `half_graphs`, which tests share

TINY = RecursiveConfig(
    image_size=32, patch_size=8, classes=3, width=32, heads=2, depth=2, recursions=3, capacities=(1.0, 0.5, 0.25),
    thresholds=(0.0, 0.1), stem="conv", pool="cls+mean", per_step_norm=True,
)  # fmt: skip


def random_model(config: RecursiveConfig) -> RecursiveViT:
    """A model whose router logits spread widely, so that selections differ from picture to picture."""
    torch.manual_seed(3)
    model = RecursiveViT(config).eval()
    for router in model.routers:
        nn.init.normal_(router.weight, std=1.0)
    return model


def source_of(module: nn.Module, size: int = 32, classes: int = 3) -> ModelSource:
    labels = tuple(f"class {i}" for i in range(classes))
    preprocess = Preprocess(height=size, width=size, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return ModelSource("tiny", module, labels, preprocess)


@pytest.fixture(scope="session")
def tiny_source() -> ModelSource:
    return source_of(random_model(TINY))


@pytest.fixture(scope="session")
def dense_source() -> ModelSource:
    return source_of(random_model(dense_twin(TINY)))


@pytest.fixture(scope="session")
def tiny_graph(tiny_source: ModelSource) -> Callable[[str], Graph]:
    """The graph of the tiny model under a routing mode, simplified as an export would."""
    graphs: dict[str, Graph] = {}

    def graph(mode: str) -> Graph:
        if mode not in graphs:
            graphs[mode] = build_graph(tiny_source, ExportSettings(routing=mode))  # type: ignore[arg-type]
        return graphs[mode]

    return graph


@pytest.fixture(scope="session")
def graph_to_quantize(tiny_source: ModelSource, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Graph]:
    """The tiny model's graph in fp32 as int8 is written into it, which is not yet in its target's forms."""
    pictures = tmp_path_factory.mktemp("pictures")
    surface("plain", 0, (32, 32)).save(pictures / "0.png")
    graphs: dict[str, Graph] = {}

    def graph(mode: str) -> Graph:
        if mode not in graphs:
            settings = ExportSettings(routing=mode, precision="int8", calibration_data=pictures)  # type: ignore[arg-type]
            graphs[mode] = build_graph(tiny_source, settings)
        return graphs[mode]

    return graph
