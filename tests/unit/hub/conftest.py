from __future__ import annotations

import numpy as np
import pytest

from edgevit.manifest import Manifest, ModelRecord, ParityEvidence
from edgevit.npz import pack_arrays
from edgevit.preprocess import Preprocess
from edgevit.spec import ReductionSpec, RoutingSpec, TensorSpec


@pytest.fixture
def manifest() -> Manifest:
    """A manifest in which every optional part is there."""
    return Manifest(
        name="steel",
        model=ModelRecord(
            source="steel-recursive", config={"width": 8, "shares": [1, 0.25]}, parameters=9, checkpoint_sha256="0" * 64
        ),
        routing=RoutingSpec(
            mode="mask", router="expert_choice", selection="threshold", steps=2, grid=(2, 2), thresholds=(0.5,),
            tokens=3,
        ),
        reduction=ReductionSpec(method="tome", grid=(2, 2), tokens=(3,)),
        input=TensorSpec("image", "float32", (1, 3, 8, 8)),
        outputs=(TensorSpec("logits", "float32", (1, 2)), TensorSpec("depth", "int32", (1, 3))),
        preprocess=Preprocess(height=8, width=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        labels=("scratch", "röd järn"),
        target="cpu-x86",
        opset=20,
        precision_requested="fp32",
        precision_achieved="fp32",
        parity=ParityEvidence(
            reference="torch 2.13.0 fp32", runtime="onnxruntime 1.31.0", inputs=16, atol=1e-4, rtol=1e-4,
            max_abs_error=2e-6, decisions_agreed=16, step_agreement=(1.0, 0.99), near_ties=1, patches_agreed=0.75,
        ),
        cost={"flops": 12.5, "tokens": [4, 1]},
        versions={"edgevit": "0.1.0"},
    )  # fmt: skip


@pytest.fixture
def content() -> dict[str, bytes]:
    """The files of a small bundle."""
    golden = pack_arrays({"image": np.zeros((1, 3, 8, 8), np.float32), "logits": np.array([[1.0, 2.0]], np.float32)})
    return {"model.onnx": b"graph" * 100, "golden.npz": golden, "parity.json": b"{}\n"}
