"""A bundle in stages small enough to see through: bright pictures want more tokens, and the answer says what ran."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgevit.bundle import Bundle
from edgevit.bundle_writer import write_bundle
from edgevit.manifest import Manifest, ModelRecord
from edgevit.preprocess import Preprocess
from edgevit.spec import RoutingSpec, TensorSpec

GRID, STEPS, TOKENS = (2, 3), 3, 6
BUDGETS = (0, 2, TOKENS)
IMAGE = TensorSpec("image", "float32", (1, 3, 8, 8))
STATE, ACTIVE = TensorSpec("state", "float32", (1, 1)), TensorSpec("active", "int32", (1,))
OUTPUTS = (TensorSpec("logits", "float32", (1, 1)), TensorSpec("counts", "int32", (1, STEPS)))


def first(image: np.ndarray) -> dict[str, np.ndarray]:
    """A picture of mean m, 0 to 1, has 6 m active tokens; its state is that number before it is rounded down."""
    state = TOKENS * image.mean(axis=(1, 2, 3))
    return {"state": state.reshape(STATE.shape), "active": state.astype(np.int32)}


def rest(budget: int) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The logit is the state; what stands in the place of the tokens of step three is the budget."""
    return lambda state: {"logits": state, "counts": np.array([[TOKENS, int(state[0, 0]), budget]], np.int32)}


def write_staged(path: Path, *, target: str = "cpu-x86") -> Bundle:
    """The bundle."""
    manifest = Manifest(
        name="steel",
        model=ModelRecord(source="steel-adaptive", config={}, parameters=9, checkpoint_sha256=None),
        routing=RoutingSpec(
            mode="adaptive",
            router="expert_choice",
            selection="threshold",
            steps=STEPS,
            grid=GRID,
            thresholds=(0.0, 0.0),
            budgets=(BUDGETS,) * (STEPS - 1),
        ),
        input=IMAGE,
        outputs=OUTPUTS,
        preprocess=Preprocess(height=8, width=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        labels=("steel",),
        target=target,
        opset=20,
        precision_requested="fp32",
        precision_achieved="fp32",
        parity=None,
        cost={},
        versions={"edgevit": "0"},
    )
    graphs = {"enter.onnx": _first_graph(), **{f"rest-{budget}.onnx": _rest_graph(budget) for budget in BUDGETS}}
    return write_bundle(path, manifest, graphs)


def _first_graph() -> bytes:
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["image", "all"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "tokens"], ["wanted"]),
        helper.make_node("Cast", ["wanted"], ["active"], to=TensorProto.INT32),
        helper.make_node("Reshape", ["wanted", "shape"], ["state"]),
    ]
    constants = {"all": np.array([1, 2, 3]), "tokens": np.array(TOKENS, np.float32), "shape": np.array(STATE.shape)}
    return _model(nodes, IMAGE, (STATE, ACTIVE), constants)


def _rest_graph(budget: int) -> bytes:
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Identity", ["state"], ["logits"]),
        helper.make_node("Cast", ["state"], ["active"], to=TensorProto.INT32),
        helper.make_node("Concat", ["tokens", "active", "budget"], ["counts"], axis=1),
    ]
    constants = {"tokens": np.array([[TOKENS]], np.int32), "budget": np.array([[budget]], np.int32)}
    return _model(nodes, STATE, OUTPUTS, constants)


def _model(nodes: list[Any], input: TensorSpec, outputs: Sequence[TensorSpec], constants: dict[str, Any]) -> bytes:
    from onnx import helper, numpy_helper

    def declared(spec: TensorSpec) -> Any:
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
        return helper.make_tensor_value_info(spec.name, dtype, spec.shape)

    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "stage", [declared(input)], [declared(spec) for spec in outputs], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())
