from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.export.trace import trace
from edgevit.models.deploy import deploy, routing_spec
from edgevit.models.source import ModelSource


@pytest.mark.parametrize("opset", [18, 20, 23])
def test_the_graph_has_the_opset_that_was_asked_for(tiny_source: ModelSource, opset: int) -> None:
    module = deploy(tiny_source.module, routing_spec(tiny_source.module, "topk"))
    model = trace(module, (2, 3, 32, 32), opset)
    assert model.opset_imports[""] == opset
    assert [value.name for value in model.graph.inputs] == ["image"]
    assert [value.name for value in model.graph.outputs] == ["logits", "depth", "counts"]
    assert [tuple(value.shape or ()) for value in model.graph.outputs] == [(2, 3), (2, 16), (2, 3)]
    selections = [node for node in model.graph if node.op_type == "TopK"]
    assert len(selections) == 4  # two steps: the best, then their positions in order
    assert all(node.attributes.get_int("sorted", 1) == 1 for node in selections)


class BranchesOnValues(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        means = image.mean(dim=(2, 3))
        return means if image.sum() > 0 else -means


def test_a_module_that_branches_on_values_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="torch cannot export this module") as failure:
        trace(deploy(BranchesOnValues(), None), (1, 3, 8, 8), 20)
    assert "\n" not in str(failure.value)
    output = capfd.readouterr()
    assert output.out == output.err == ""


def test_the_random_state_and_the_module_are_left_alone(tiny_source: ModelSource) -> None:
    before = {name: value.clone() for name, value in tiny_source.module.state_dict().items()}
    state = torch.random.get_rng_state()
    trace(deploy(tiny_source.module, routing_spec(tiny_source.module, "mask")), (1, 3, 32, 32), 20)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in tiny_source.module.state_dict().items())
