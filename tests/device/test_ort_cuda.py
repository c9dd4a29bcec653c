"""ONNX Runtime on the GPU, strictly: every node there, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.parity import Golden
from edgevit.runtimes.choose import RUNTIMES, open_runner


@pytest.mark.parametrize("name", ["ort-cuda", "ort-trt"])
def test_bundles_answer_on_the_gpu_as_their_source_does(bundles, compute_capability, name):
    runtime = next(runtime for runtime in RUNTIMES if runtime.name == name)
    if not runtime.installed:
        pytest.skip(f"this onnxruntime has no {runtime.provider}; {runtime.remedy}")
    for bundle in bundles:
        golden = Golden.from_arrays(bundle.golden())
        with open_runner(bundle, name) as runner:
            print(dict(runner.facts))
            batch = runner.input.shape[0]
            logits = runner(np.ascontiguousarray(golden.images[:batch]))["logits"]
        assert (logits.argmax(axis=1) == golden.logits[:batch].argmax(axis=1)).all()
