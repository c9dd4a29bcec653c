"""How large engines become: weights are stored once however often they are used, and what comes on top is bounded.

What comes on top is the text of kernels, about 0.13 MB for each that differs in shape from the others.
"""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the export extra needs torch")
trt_rtx = pytest.importorskip("tensorrt_rtx", reason="builds with TensorRT-RTX: pip install 'edgevit[tensorrt-rtx]'")

from edgevit.export.pipeline import build_graph  # noqa: E402
from edgevit.export.settings import ExportSettings  # noqa: E402
from edgevit.export.trt import EngineSettings, build_engine  # noqa: E402
from edgevit.models.architecture import seeded  # noqa: E402
from edgevit.models.opening import open_model  # noqa: E402
from edgevit.models.recursive import RecursiveConfig  # noqa: E402
from edgevit.models.source import ModelSource  # noqa: E402
from edgevit.preprocess import Preprocess  # noqa: E402
from edgevit.spec import RoutingMode  # noqa: E402

MAY_ADD_BYTES = 12_000_000


def sizes(model: str, routing: RoutingMode | None) -> tuple[int, int]:
    """Bytes of a shipped model's graph and of its engine."""
    settings = ExportSettings(target="rtx", routing=routing, verify=False)
    graph = build_graph(open_model(model), settings).onnx
    return len(graph), len(build_engine(graph, trt_rtx, EngineSettings()).engine)


@pytest.mark.parametrize(
    "model, routing",
    [
        ("steel-dense", None),
        ("steel-recursive", "topk"),
        ("steel-recursive", "mask"),
        ("steel-adaptive", "mask"),
        ("steel-ltm", None),
        ("steel-tome", None),
    ],
)
def test_a_shipped_models_engine_is_little_more_than_its_graph(model: str, routing: RoutingMode | None) -> None:
    graph, engine = sizes(model, routing)
    assert engine - graph < MAY_ADD_BYTES


def source(recursions: int) -> tuple[ModelSource, int]:
    """A recursive model, and the bytes of its shared stack."""
    config = RecursiveConfig(
        image_size=32, patch_size=8, classes=3, width=320, heads=5, depth=3, recursions=recursions,
        capacities=(1.0, 0.5, 0.25, 0.125)[:recursions],
    )  # fmt: skip
    module = seeded(config)
    stack = sum(weight.numel() for name, weight in module.named_parameters() if name.startswith("blocks.")) * 4
    preprocess = Preprocess(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    return ModelSource("sized", module, ("a", "b", "c"), preprocess), stack


def test_two_more_recursion_steps_add_less_than_half_of_the_stacks_weights() -> None:
    settings = ExportSettings(target="rtx", routing="mask", simplify=False, verify=False)
    (twice, stack), (four_times, _) = source(2), source(4)
    graphs = [build_graph(model, settings).onnx for model in (twice, four_times)]
    small, large = (len(build_engine(graph, trt_rtx, EngineSettings()).engine) for graph in graphs)
    assert stack > 14_000_000
    assert large - small < stack / 2
