from __future__ import annotations

import numpy as np
import pytest

from edgevit.errors import InputError
from edgevit.runtimes.torch_ref import TorchRunner
from edgevit.spec import TensorSpec

torch = pytest.importorskip("torch", reason="the reference is a torch module")

IMAGE = TensorSpec("image", "float32", (1, 3, 4, 4))


class Greedy(torch.nn.Module):
    """Writes into its input and returns a buffer of its own: whatever a careless module does."""

    def __init__(self):
        super().__init__()
        self.register_buffer("depth", torch.ones(1, 4, dtype=torch.int32))

    def forward(self, image):
        image.mul_(0)
        return image.flatten(1), self.depth


def test_a_module_that_returns_one_tensor_has_one_output():
    with TorchRunner(torch.nn.Flatten().eval(), IMAGE, ["logits"]) as runner:
        assert runner.outputs == (TensorSpec("logits", "float32", (1, 48)),)


def test_a_careless_module_touches_nothing_of_the_callers():
    image = np.ones(IMAGE.shape, np.float32)
    with TorchRunner(Greedy().eval(), IMAGE, ["logits", "depth"]) as runner:
        answer = runner(image)
        answer["depth"] += 5
        assert image.all()
        assert (runner(image)["depth"] == 1).all()


def test_a_module_in_training_mode_is_refused_and_stays_in_it():
    module = torch.nn.Flatten().train()
    with pytest.raises(InputError, match=r"call module\.eval\(\) first"), TorchRunner(module, IMAGE, ["logits"]):
        pass
    assert module.training


@pytest.mark.parametrize("names", [["logits"], ["logits", "depth", "counts"]])
def test_another_number_of_outputs_than_names_is_refused(names):
    runner = TorchRunner(Greedy().eval(), IMAGE, names)
    with pytest.raises(InputError, match=f"got 2 outputs from the module, wanted {len(names)}: logits"), runner:
        pass


def test_facts_name_the_device():
    with TorchRunner(torch.nn.Flatten().eval(), IMAGE, ["logits"]) as runner:
        assert runner.facts["runtime"] == "torch"
        assert runner.facts["device"] == "cpu"
        assert runner.facts["threads"] == torch.get_num_threads()
