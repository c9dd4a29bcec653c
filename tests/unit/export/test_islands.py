from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from half_graphs import graph_of, two_layers

from edgevit.export.half import Half
from edgevit.export.islands import islands
from edgevit.export.pipeline import Graph

LINEAR = {"w": np.ones((48, 4), np.float32)}


def reasons(model: ir.Model, largest: dict[str, float] | None = None, precision: Half = "fp16") -> dict[str, str]:
    return {island.node: island.reason for island in islands(model, largest or {}, precision)}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_norms_softmax_sums_and_quotients_stay_in_fp32(precision: Half) -> None:
    body = """
        flat = Flatten(image)
        [norm] a = LayerNormalization(flat, g)
        [soft] b = Softmax(a)
        [sum] c = ReduceSum(b)
        [quotient] d = Div(b, c)
        [scaled] e = Div(d, half)
        [product] logits = MatMul(e, w)
    """
    model = graph_of(body, LINEAR | {"g": np.ones(48, np.float32), "half": np.array(2, np.float32)})
    found = reasons(model, precision=precision)
    assert sorted(found) == ["norm", "quotient", "soft", "sum"]
    assert all(found.values())


@pytest.mark.parametrize("mode", ["topk", "mask"])
def test_the_router_is_kept_from_its_product_to_its_ranking_and_nothing_before(
    tiny_graph: Callable[[str], Graph], mode: str
) -> None:
    model = ir.from_proto(onnx.load_from_string(tiny_graph(mode).onnx))
    kept = reasons(model)
    scored = {name for name, reason in kept.items() if reason.startswith("a score")}
    products = {str(node.name) for node in model.graph if node.op_type in ("MatMul", "Gemm")}
    assert {name.split("/")[0] for name in scored & products} == {"routers.0", "routers.1"}
    assert {str(node.name) for node in model.graph if node.op_type == "TopK" and node.name in kept} <= scored
    assert scored
    assert not any(name.startswith(("blocks", "stem", "head")) for name in scored)


def test_a_likeness_of_tokens_is_kept_with_what_is_computed_for_it_alone() -> None:
    body = """
        [rows] rows = Reshape(image, to)
        [keys] keys = MatMul(rows, w)
        [scaled] scaled = Mul(keys, half)
        [turned] turned = Transpose <perm = [1, 0]> (scaled)
        [alike] alike = MatMul(scaled, turned)
        [best] score, index = TopK(alike, k)
        [values] values = Mul(keys, half)
        [pooled] logits = ReduceMean <keepdims = 0> (values, axis)
    """
    constants = {"to": np.array([12, 4]), "k": np.array([1]), "axis": np.array([0]), "half": np.array(0.5, np.float32)}
    ends = "(float[1,3,4,4] image) => (float[4] logits, float[12,1] score, int64[12,1] index)"
    model = graph_of(body, constants | {"w": np.ones((4, 4), np.float32)}, ends)
    scored = {name for name, reason in reasons(model).items() if reason.startswith("a score")}
    assert scored == {"best", "alike", "turned", "scaled"}


def test_ranking_of_whole_numbers_keeps_nothing() -> None:
    body = "flat = Flatten(image)  logits = MatMul(flat, w)  [best] best, rank = TopK(number, k)"
    ends = "(float[1,3,4,4] image, int64[4] number) => (float[1,4] logits, int64[1] best, int64[1] rank)"
    assert not reasons(graph_of(body, LINEAR | {"k": np.array([1])}, ends))


def test_large_values_are_kept_in_fp32_on_either_side_of_them_in_fp16_alone() -> None:
    model, largest = two_layers(), {"flat": 3.0, "hidden": 513.0, "normed": 512.0}
    found = reasons(model, largest)
    assert found["first"] == "hidden reaches 513, more than 512"
    assert "second" not in found
    assert "first" not in reasons(model, largest, "bf16")


@pytest.mark.parametrize("size", [np.inf, np.nan])
def test_a_value_that_is_no_number_is_kept(size: float) -> None:
    assert "second" in reasons(two_layers(), {"logits": size})


def test_a_constant_beyond_fp16_keeps_its_node() -> None:
    assert reasons(two_layers(scale=1e5))["first"] == "the constant w0 is beyond 65504"
    assert "first" not in reasons(two_layers(scale=1e5), precision="bf16")


def test_a_mask_of_minus_infinity_is_no_large_constant() -> None:
    body = "flat = Flatten(image)  [masked] x = Add(flat, mask)  logits = MatMul(x, w)"
    assert "masked" not in reasons(graph_of(body, LINEAR | {"mask": np.array(-np.inf, np.float32)}))


def test_a_scale_with_too_few_digits_keeps_its_quantizer() -> None:
    body = "flat = Flatten(image)  [q] q = QuantizeLinear(flat, s, z)  [d] x = DequantizeLinear(q, s, z)"
    body += "  logits = MatMul(x, w)"
    weights = LINEAR | {"z": np.array(0, np.int8)}
    assert "q" in reasons(graph_of(body, weights | {"s": np.array(1e-5, np.float32)}))
    assert "q" not in reasons(graph_of(body, weights | {"s": np.array(1e-3, np.float32)}))


def test_a_sum_of_very_many_products_is_kept() -> None:
    ends = "(float[1,3,64,64] image) => (float[1,4] logits)"
    body = "flat = Flatten(image)  [deep] logits = MatMul(flat, w)"
    assert reasons(graph_of(body, {"w": np.ones((12288, 4), np.float32)}, ends)) == {
        "deep": "adds up 12288 products, more than 8192"
    }


def test_operators_that_the_opset_does_not_define_for_the_type_are_kept() -> None:
    ends = "(float[1,3,4,4] image) => (float[1,2,4,4] logits)"
    model = graph_of("[conv] logits = Conv(image, w)", {"w": np.ones((2, 3, 1, 1), np.float32)}, ends)
    assert reasons(model, precision="bf16") == {"conv": "opset 20 has no Conv in bf16"}
    assert not reasons(model, precision="fp16")
