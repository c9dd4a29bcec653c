"""The graph without branches against the adaptive one, with thresholds by which every rung is entered."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.export.fullest import fullest
from edgevit.export.name_thresholds import set_thresholds
from edgevit.export.pipeline import Graph
from edgevit.export.recalibrate import recalibrated, score_output
from edgevit.runtimes.ort import OrtRunner


def run(model: ir.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    with OrtRunner(ir.to_proto(model).SerializeToString(), threads=1) as runner:
        return runner(image)


def test_it_answers_as_the_adaptive_graph_whatever_rung_that_enters(graph_to_quantize: Callable[[str], Graph]) -> None:
    graph = graph_to_quantize("adaptive")
    assert graph.routing is not None
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    shown = ir.from_proto(onnx.load_from_string(recalibrated(graph.onnx, (0.0, 0.0), scores=True)))
    scores = -np.sort(-run(shown, image)[score_output(1)][0])
    entered = set()
    for active in (0, 1, 3, 9, 16):
        adaptive = ir.from_proto(onnx.load_from_string(graph.onnx))
        between = np.concatenate([[1e9], (scores[:-1] + scores[1:]) / 2, [-1e9]])
        set_thresholds(adaptive, [float(between[active]), -1e9])
        whole = fullest(adaptive)
        onnx.checker.check_model(ir.to_proto(whole), full_check=True)
        wanted, got = run(adaptive, image), run(whole, image)
        assert wanted["counts"].tolist() == [[16, active, active]]
        np.testing.assert_array_equal(got["depth"], wanted["depth"])
        np.testing.assert_array_equal(got["counts"], wanted["counts"])
        np.testing.assert_allclose(got["logits"], wanted["logits"], atol=1e-4, rtol=0)
        entered.add(min(k for k in graph.routing.budgets[0] if k >= active))
    assert entered == set(graph.routing.budgets[0])


def test_nothing_of_a_branch_is_left_and_names_are_those_of_any_rung(graph_to_quantize: Callable[[str], Graph]) -> None:
    adaptive = ir.from_proto(onnx.load_from_string(graph_to_quantize("adaptive").onnx))
    whole = fullest(adaptive)
    nodes = list(whole.graph.all_nodes())
    assert "If" not in {node.op_type for node in nodes}
    names = [str(node.name) for node in nodes]
    assert len(set(names)) == len(names)
    for step in range(3):
        assert f"blocks.1[{step}].mlp.0/MatMul" in names or f"blocks.1[{step}].mlp.0/Gemm" in names
    assert "If" in {node.op_type for node in adaptive.graph}, "the graph itself is not changed"
