from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from forced_counts import EXPERT, RUNGS, TOKEN, forced, pictures, source_of

from edgevit.export.pipeline import build_graph
from edgevit.export.rejoin import rejoined
from edgevit.export.settings import ExportSettings
from edgevit.export.shapes import with_shapes
from edgevit.export.stages import cut
from edgevit.runtimes.ort import OrtRunner


def run(model: ir.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    with OrtRunner(ir.to_proto(model).SerializeToString(), threads=1) as runner:
        return runner(image)


@pytest.mark.parametrize("router", ["expert_choice", "token_choice"])
def test_a_graph_in_stages_is_one_again_and_is_cut_where_it_was(router: str) -> None:
    model = forced(EXPERT if router == "expert_choice" else TOKEN)
    graph = build_graph(source_of(model), ExportSettings(target="rtx", routing="adaptive", budgets=RUNGS))
    enter = ir.from_proto(onnx.load_from_string(graph.onnx))
    image = pictures([(3, 1)])
    for budget, rest in graph.rests.items():
        later = ir.from_proto(onnx.load_from_string(rest))
        whole, seam = rejoined(enter, later)
        onnx.checker.check_model(ir.to_proto(whole), full_check=True)
        names = [str(node.name) for node in whole.graph]
        assert len(set(names)) == len(names)
        wanted, got = run(later, run(enter, image)["state"]), run(whole, image)
        assert list(got) == [output.name for output in graph.outputs]
        for name, numbers in wanted.items():
            np.testing.assert_allclose(got[name], numbers, atol=1e-5, rtol=0)
        again = cut(with_shapes(whole), seam)
        assert run(again[0], image)["active"].tolist() == [3]
        state = run(again[0], image)["state"]
        np.testing.assert_allclose(run(again[1], state)["logits"], wanted["logits"], atol=1e-5, rtol=0)
        assert budget in RUNGS
