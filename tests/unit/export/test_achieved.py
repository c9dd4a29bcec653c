from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from edgevit.errors import CheckFailed
from edgevit.export.achieved import achieved_precision, require_precision


def product(weight: np.ndarray, *, quantized: bool = False) -> ir.Model:
    kind = helper.np_dtype_to_tensor_dtype(weight.dtype)
    real = onnx.TensorProto.FLOAT if quantized else kind
    tensors = [numpy_helper.from_array(weight, "w")]
    nodes = []
    if quantized:
        tensors.append(numpy_helper.from_array(np.float32(0.1).reshape(()), "scale"))
        nodes.append(helper.make_node("DequantizeLinear", ["w", "scale"], ["real"]))
    nodes.append(helper.make_node("MatMul", ["image", "real" if quantized else "w"], ["logits"]))
    ends = [helper.make_tensor_value_info(name, real, [1, 2]) for name in ("image", "logits")]
    return ir.from_proto(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)))


@pytest.mark.parametrize(
    "weight, quantized, precision",
    [
        (np.eye(2, dtype=np.float32), False, "fp32"),
        (np.eye(2, dtype=np.float16), False, "fp16"),
        (np.eye(2, dtype=np.int8), True, "int8"),
    ],
)
def test_precision_is_read_from_the_weights_of_products(weight: np.ndarray, quantized: bool, precision: str) -> None:
    assert achieved_precision(product(weight, quantized=quantized)) == precision


def test_a_request_that_was_not_met_fails() -> None:
    with pytest.raises(CheckFailed, match="asked for fp16, but most of the graph's weights are fp32"):
        require_precision(product(np.eye(2, dtype=np.float32)), "fp16")


def test_one_weight_of_a_precision_does_not_make_a_graph_one_of_it() -> None:
    def weight(name: str, size: int, kind: type) -> onnx.TensorProto:
        return numpy_helper.from_array(np.zeros((size, size), kind), name)

    def graph(half: int, full: int) -> ir.Model:
        tensors = [weight("h", half, np.float16), weight("f", full, np.float32)]
        ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("image", "logits")]
        nodes = [
            helper.make_node("MatMul", ["image", "h"], ["a"]),
            helper.make_node("MatMul", ["a", "f"], ["logits"]),
        ]
        return ir.from_proto(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)))

    assert achieved_precision(graph(half=4, full=2)) == "fp16"
    assert achieved_precision(graph(half=2, full=4)) == "fp32"


def test_a_rung_of_another_precision_than_its_step_fails() -> None:
    def branch(rung: int, quantized: bool) -> onnx.GraphProto:
        inner = product(np.eye(2, dtype=np.int8 if quantized else np.float32), quantized=quantized)
        graph = ir.to_proto(inner).graph
        graph.node[-1].name = f"blocks.0[1]/MatMul@{rung}"
        graph.node[-1].input[0] = "image"
        graph.node[-1].output[0] = graph.output[0].name = f"logits_{rung}"
        del graph.input[:]
        for tensor in graph.initializer:
            tensor.name += f"_{rung}"
        for node in graph.node:
            renamed = [name if name in ("image", "real") else f"{name}_{rung}" for name in node.input]
            del node.input[:]
            node.input.extend(renamed)
        return graph

    def ladder(*quantized: bool) -> ir.Model:
        then, other = (branch(rung, kind) for rung, kind in zip((4, 16), quantized, strict=True))
        choice = helper.make_node("If", ["fits"], ["logits"], then_branch=then, else_branch=other)
        ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2]) for name in ("image", "logits")]
        fits = numpy_helper.from_array(np.array(True), "fits")
        return ir.from_proto(helper.make_model(helper.make_graph([choice], "g", ends[:1], ends[1:], [fits])))

    assert require_precision(ladder(True, True), "int8") == "int8"
    with pytest.raises(CheckFailed, match=r"blocks.0\[1\]/MatMul is int8 in some rungs of its step and not in others"):
        require_precision(ladder(True, False), "int8")
