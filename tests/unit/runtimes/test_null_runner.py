from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgevit.runtimes.null_runner import NullRunner
from edgevit.spec import TensorSpec

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


@given(st.dictionaries(st.text(min_size=1), st.tuples(st.sampled_from(["float32", "int32"]), shapes), max_size=3))
def test_it_answers_zeros_of_whatever_outputs_it_was_told(outputs):
    specs = [TensorSpec(name, dtype, shape) for name, (dtype, shape) in outputs.items()]
    with NullRunner(TensorSpec("image", "float32", (1, 3, 2, 2)), specs) as runner:
        answer = runner(np.ones((1, 3, 2, 2), np.float32))
    assert [TensorSpec(name, str(value.dtype), value.shape) for name, value in answer.items()] == specs
    assert not any(value.any() for value in answer.values())
