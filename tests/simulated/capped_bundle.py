"""An adaptive bundle small enough to see through: bright pictures want more tokens, and caps let fewer go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgevit.bundle import Bundle
from edgevit.bundle_writer import write_bundle
from edgevit.manifest import Manifest, ModelRecord
from edgevit.npz import pack_arrays
from edgevit.parity import Golden
from edgevit.preprocess import Preprocess
from edgevit.spec import RoutingSpec, TensorSpec

GRID, STEPS, TOKENS = (2, 3), 3, 6
RUNGS = (0, 2, TOKENS)
LABELS = ("dark", "middle", "bright")


def write_capped(path: Path, *, trace: bool = True, batch: int = 1, mode: Any = "adaptive") -> Bundle:
    """A picture of mean m, 0 to 1, wants the first 6 m tokens at step two and the first 6 m - 1 at step three."""
    names = ["logits", "depth", "counts", "dropped"] if trace else ["logits"]
    shapes = {"logits": len(LABELS), "depth": TOKENS, "counts": STEPS, "dropped": STEPS}
    outputs = tuple(
        TensorSpec(name, "float32" if name == "logits" else "int32", (batch, shapes[name])) for name in names
    )
    manifest = Manifest(
        name="steel",
        model=ModelRecord(source="steel-adaptive", config={}, parameters=9, checkpoint_sha256=None),
        routing=RoutingSpec(
            mode=mode,
            router="expert_choice",
            selection="threshold",
            steps=STEPS,
            grid=GRID,
            thresholds=(0.0, 0.0),
            budgets=(RUNGS, RUNGS) if mode == "adaptive" else (),
        ),
        input=TensorSpec("image", "float32", (batch, 3, 8, 8)),
        outputs=outputs,
        preprocess=Preprocess(height=8, width=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        labels=LABELS,
        target="cpu-x86",
        opset=20,
        precision_requested="fp32",
        precision_achieved="fp32",
        parity=None,
        cost={},
        versions={"edgevit": "0"},
    )
    golden = Golden(("grey",), np.full((1, 3, 8, 8), 0.5, np.float32), np.zeros((1, len(LABELS)), np.float32))
    return write_bundle(
        path, manifest, {"model.onnx": _graph(outputs, batch), "golden.npz": pack_arrays(golden.to_arrays())}
    )


def _graph(outputs: tuple[TensorSpec, ...], batch: int) -> bytes:
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["image", "inner"], ["mean"], keepdims=0),
        node("Unsqueeze", ["mean", "one"], ["bright"]),
        node("Sub", ["bright", "classes"], ["away"]),
        node("Abs", ["away"], ["distance"]),
        node("Mul", ["distance", "steep"], ["logits"]),
        node("Sub", ["bright", "ramp"], ["score1"]),
        node("Sub", ["score1", "sixth"], ["score2"]),
    ]
    for step in (1, 2):
        before = "everyone" if step == 1 else "kept1"
        nodes += [
            node("Greater", [f"score{step}", f"threshold[{step}]"], [f"passes{step}"]),
            node("And", [before, f"passes{step}"], [f"took{step}"]),
            node("Less", ["places", f"cap[{step}]"], [f"within{step}"]),
            node("And", [f"took{step}", f"within{step}"], [f"kept{step}"]),
        ]
        for what in ("took", "kept"):
            nodes += [
                node("Cast", [f"{what}{step}"], [f"{what}{step}_int"], to=TensorProto.INT32),
                node("ReduceSum", [f"{what}{step}_int", "one"], [f"{what}{step}_sum"], keepdims=1),
            ]
        nodes.append(node("Sub", [f"took{step}_sum", f"kept{step}_sum"], [f"dropped{step}"]))
    nodes += [
        node("Add", ["kept1_int", "kept2_int"], ["later"]),
        node("Add", ["later", "ones"], ["depth"]),
        node("Concat", ["all", "kept1_sum", "kept2_sum"], ["counts"], axis=1),
        node("Concat", ["none", "dropped1", "dropped2"], ["dropped"], axis=1),
    ]
    constants = {
        "inner": np.array([1, 2, 3]),
        "one": np.array([1]),
        "classes": np.array([[0, 0.5, 1]], np.float32),
        "steep": np.float32(-8),
        "ramp": (np.arange(TOKENS, dtype=np.float32) / TOKENS)[None],
        "sixth": np.float32(1 / TOKENS),
        "everyone": np.ones((batch, TOKENS), bool),
        "places": np.arange(TOKENS)[None],
        "ones": np.ones((batch, TOKENS), np.int32),
        "all": np.full((batch, 1), TOKENS, np.int32),
        "none": np.zeros((batch, 1), np.int32),
        **{f"threshold[{step}]": np.float32(0) for step in (1, 2)},
        **{f"cap[{step}]": np.array(TOKENS) for step in (1, 2)},
    }
    kinds = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}
    graph = helper.make_graph(
        nodes,
        "capped",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (batch, 3, 8, 8))],
        [helper.make_tensor_value_info(spec.name, kinds[spec.dtype], spec.shape) for spec in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())
