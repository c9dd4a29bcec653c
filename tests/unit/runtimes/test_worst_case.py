from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the graph is built with onnx")
pytest.importorskip("onnxruntime", reason="the runtime that is forced")

from capped_bundle import TOKENS, write_capped
from staged_bundle import write_staged

from edgevit.errors import InputError
from edgevit.runtimes.worst_case import open_worst_case


@pytest.mark.parametrize("runtime", ["auto", "ort"])
def test_the_darkest_picture_takes_every_token_at_every_step(tmp_path, runtime):
    bundle = write_capped(tmp_path / "adaptive")
    with open_worst_case(str(bundle.path), runtime, threads=1) as runner:
        counts = runner(np.zeros((1, 3, 8, 8), np.float32))["counts"]
        assert runner.facts["threads"] == 1
    assert counts.tolist() == [[TOKENS, TOKENS, TOKENS]]


@pytest.mark.parametrize("runtime", ["auto", "ort"])
def test_the_darkest_picture_of_a_bundle_in_stages_runs_the_largest_budget(tmp_path, runtime):
    bundle = write_staged(tmp_path / "staged")
    with open_worst_case(str(bundle.path), runtime, threads=1) as runner:
        counts = runner(np.zeros((1, 3, 8, 8), np.float32))["counts"]
    assert counts[0, -1] == TOKENS, "the budget stands in the place of the last step's tokens"


def test_a_bundle_that_always_costs_the_same_has_none(tmp_path):
    with pytest.raises(InputError, match="is mask, so there are no budgets to choose"):
        open_worst_case(write_capped(tmp_path / "mask", mode="mask"))


def test_a_runtime_whose_steps_cannot_be_forced_is_named(tmp_path):
    with pytest.raises(InputError, match="can be forced on runtime ort and not on ov"):
        open_worst_case(write_capped(tmp_path / "adaptive"), "ov")
