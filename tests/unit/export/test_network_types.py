"""Types and attention chains of networks that the real parser made; nothing is built here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

trt_rtx = pytest.importorskip("tensorrt_rtx", reason="parses with TensorRT-RTX: pip install 'edgevit[tensorrt-rtx]'")

from attention_graphs import attention_graph  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edgevit.errors import CheckFailed  # noqa: E402
from edgevit.export.network_types import NetworkTypes, network_types, require_types  # noqa: E402


def types_of(onnx: bytes) -> NetworkTypes:
    logger = trt_rtx.Logger(trt_rtx.Logger.INTERNAL_ERROR)
    builder = trt_rtx.Builder(logger)
    network = builder.create_network(1 << int(trt_rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt_rtx.OnnxParser(network, logger)
    assert parser.parse(onnx), parser.get_error(0).desc()
    return network_types(network, trt_rtx)


def graph(nodes: list[Any], shape: list[int], constants: dict[str, np.ndarray], end: list[int]) -> bytes:
    """Nodes from `image` to `logits`."""
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(operator, inputs, outputs, **kept) for operator, inputs, outputs, kept in nodes],
            "g",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, end)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    return bytes(model.SerializeToString())


def test_a_weight_that_two_steps_share_is_counted_once() -> None:
    types = types_of(attention_graph("fp32"))
    assert types.weight_bytes == {"fp32": 4 * (32 * 32 + 32 + 1)}  # the weight, the bias and the scale


def test_islands_are_told_from_what_is_around_them() -> None:
    types = types_of(attention_graph("fp16", softmax="fp32"))
    assert types.products == {"fp16": 1.0}
    assert types.layers == {"fp16": pytest.approx(12 / 14), "fp32": pytest.approx(2 / 14)}


def test_a_convolution_counts_by_its_kernel() -> None:
    half = np.ones((8, 3, 2, 2), np.float16)
    types = types_of(
        graph(
            [
                ("Conv", ["image", "stem"], ["a"], {"strides": [2, 2]}),
                ("Cast", ["a"], ["b"], {"to": TensorProto.FLOAT16}),
                ("Conv", ["b", "half"], ["c"], {}),
                ("Cast", ["c"], ["logits"], {"to": TensorProto.FLOAT}),
            ],
            [1, 3, 8, 8],
            {"stem": np.ones((3, 3, 2, 2), np.float32), "half": half},
            [1, 8, 3, 3],
        )
    )
    assert types.products == {"fp16": pytest.approx(96 / 132), "fp32": pytest.approx(36 / 132)}
    assert types.weight_bytes == {"fp16": 96 * 2, "fp32": 36 * 4}
    assert types.layers == {"fp16": 0.5, "fp32": 0.5}


@pytest.mark.parametrize(
    "changes, fusable",
    [
        ({}, 2),
        ({"softmax": "fp32"}, 2),
        ({"precision": "fp32"}, 0),
        ({"scaled_after": True}, 0),
        ({"heads": 1}, 0),
    ],
)
def test_attention_is_found_and_its_form_judged(changes: dict[str, Any], fusable: int) -> None:
    types = types_of(attention_graph(**({"precision": "fp16"} | changes)))
    assert types.attention == {changes.get("precision", "fp16"): 2}
    assert types.attention_fusable == fusable


def test_a_mask_that_is_added_leaves_attention_fusable() -> None:
    """And so does the constant's place as the first operand of the sum."""
    half = {"to": TensorProto.FLOAT16}
    types = types_of(
        graph(
            [
                ("Cast", ["image"], ["q"], half),
                ("Transpose", ["q"], ["k"], {"perm": [0, 1, 3, 2]}),
                ("MatMul", ["q", "k"], ["s"], {}),
                ("Add", ["mask", "s"], ["m"], {}),
                ("Softmax", ["m"], ["p"], {"axis": -1}),
                ("MatMul", ["p", "q"], ["o"], {}),
                ("Cast", ["o"], ["logits"], {"to": TensorProto.FLOAT}),
            ],
            [1, 2, 8, 16],
            {"mask": np.zeros((1, 1, 8, 8), np.float16)},
            [1, 2, 8, 16],
        )
    )
    assert (types.attention, types.attention_fusable) == ({"fp16": 1}, 1)


def test_a_softmax_over_classes_is_no_attention() -> None:
    weight = np.ones((16, 4), np.float32)
    nodes = [("MatMul", ["image", "w"], ["s"], {}), ("Softmax", ["s"], ["logits"], {})]
    types = types_of(graph(nodes, [1, 16], {"w": weight}, [1, 4]))
    assert (types.attention, types.attention_fusable) == ({}, 0)


def types_with(products: dict[str, float], layers: dict[str, float]) -> NetworkTypes:
    return NetworkTypes(products, layers, {}, {}, 0)


@pytest.mark.parametrize(
    "wanted, products, layers",
    [
        ("fp32", {"fp32": 1.0}, {"fp32": 1.0}),
        ("fp16", {"fp16": 0.5, "fp32": 0.5}, {"fp32": 0.9, "fp16": 0.1}),
        ("bf16", {"bf16": 1.0}, {"bf16": 1.0}),
        ("int8", {"int8": 0.8, "fp16": 0.2}, {"fp16": 0.6, "fp32": 0.4}),
        ("fp32", {}, {"fp32": 1.0}),
    ],
)
def test_a_request_that_was_met_passes(wanted: Any, products: dict[str, float], layers: dict[str, float]) -> None:
    require_types(types_with(products, layers), wanted)


@pytest.mark.parametrize(
    "wanted, products, layers, says",
    [
        ("fp32", {"fp16": 0.01, "fp32": 0.99}, {"fp32": 1.0}, "multiplies 1 % fp16, 99 % fp32"),
        ("fp16", {"fp16": 0.49, "fp32": 0.51}, {"fp16": 1.0}, "multiplies 49 % fp16, 51 % fp32"),
        ("fp16", {"bf16": 1.0}, {"bf16": 1.0}, "multiplies 100 % bf16"),
        ("int8", {"int8": 1.0}, {"fp32": 0.51, "fp16": 0.49}, "51 % of the layers beside its products compute in fp32"),
    ],
)
def test_a_request_that_was_not_met_fails(
    wanted: Any, products: dict[str, float], layers: dict[str, float], says: str
) -> None:
    with pytest.raises(CheckFailed, match=says):
        require_types(types_with(products, layers), wanted)
