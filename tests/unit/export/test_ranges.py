"""Ranges of a graph's values: against the values themselves, run one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from edgevit.errors import InputError
from edgevit.export.pipeline import Graph
from edgevit.export.ranges import measure_ranges
from edgevit.runtimes.ort import OrtRunner


def open_graph(onnx: bytes) -> OrtRunner:
    return OrtRunner(onnx, threads=1)


@pytest.fixture(scope="module")
def tiny(tiny_graph: Callable[[str], Graph]) -> ir.Model:
    import onnx

    return ir.from_proto(onnx.load_from_string(tiny_graph("topk").onnx))


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((1, 3, 32, 32)).astype(np.float32) for _ in range(count)]


def test_the_extremes_of_outputs_are_those_of_the_graph_itself(tiny: ir.Model) -> None:
    batches = pictures(3)
    before = ir.to_proto(tiny).SerializeToString(deterministic=True)
    ranges = measure_ranges(tiny, batches, open_graph)
    assert ir.to_proto(tiny).SerializeToString(deterministic=True) == before, "the model given is not changed"
    with open_graph(before) as runner:
        logits = np.concatenate([runner(batch)["logits"] for batch in batches])
    assert ranges.smallest["logits"] == pytest.approx(logits.min(), rel=1e-5)
    assert ranges.biggest["logits"] == pytest.approx(logits.max(), rel=1e-5)
    assert ranges.largest["logits"] == pytest.approx(np.abs(logits).max(), rel=1e-5)
    assert ranges.largest["image"] == pytest.approx(max(np.abs(batch).max() for batch in batches))


def test_no_batch_is_refused(tiny: ir.Model) -> None:
    with pytest.raises(InputError, match="no batch"):
        measure_ranges(tiny, [], open_graph)
