from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper, parser

from edgevit.errors import CheckFailed
from edgevit.export.check import check_graph as check_shaped
from edgevit.export.shapes import with_shapes

HEADER = '<ir_version: 10, opset_import: ["" : 20]>\n'


def check_graph(model: ir.Model) -> None:
    check_shaped(with_shapes(model))


def model_of(text: str) -> ir.Model:
    return ir.from_proto(parser.parse_model(HEADER + text))


def named(model: ir.Model) -> ir.Model:
    for i, node in enumerate(model.graph):
        node.name = f"part/{node.op_type}_{i}"
    return model


def test_a_plain_static_graph_passes() -> None:
    check_graph(model_of("g (float[1,3] image) => (float[1,3] logits) { logits = Relu(image) }"))


@pytest.mark.parametrize(
    "text",
    [
        # centring alone is no LayerNorm
        "g (float[1,3] image) => (float[1,3] logits) { m = ReduceMean(image)  logits = Sub(image, m) }",
        # a temperature on the classes is no attention
        "g (float[1,4] image, float[4,4] w) => (float[1,4] logits) { s = MatMul(image, w)"
        "  c = Constant<value_float=0.5>()  m = Mul(s, c)  logits = Softmax(m) }",
        # the scale on q is where it belongs
        "g (float[1,2,4] image) => (float[1,2,4] logits) { c = Constant<value_float=0.5>()  q = Mul(image, c)"
        "  t = Transpose<perm=[0,2,1]>(image)  s = MatMul(q, t)  p = Softmax(s)  logits = MatMul(p, image) }",
    ],
)
def test_what_only_looks_like_a_breach_passes(text: str) -> None:
    check_graph(named(model_of(text)))


def test_an_inner_shape_that_depends_on_data_is_found() -> None:
    text = (
        "g (float[1,8] image, int64[1] k) => (float[1] logits) { v, i = TopK(image, k)"
        "  logits = ReduceMax<keepdims=0>(v) }"
    )
    with pytest.raises(CheckFailed, match=r"part/TopK_0: v: shape .* is not static"):
        check_graph(named(model_of(text)))


@pytest.mark.parametrize(
    "text, says",
    [
        ("g (float[N,3] image) => (float[N,3] logits) { logits = Relu(image) }", "image: shape"),
        ("g (float[1,3] image) => (int64[2,K] logits) { logits = NonZero(image) }", "part/NonZero_0: NonZero"),
        (
            "g (float[1,3] image) => (float[1,3] logits) { k = NonZero(image)  f = Cast<to=1>(k)"
            "  s = ReduceSum<keepdims=0>(f)  logits = Add(image, s) }",
            "part/NonZero_0: NonZero makes shapes depend on data",
        ),
        (
            "g (float[4,3] image, int64[2,3] at, float[2,3] new) => (float[4,3] logits)"
            ' { logits = ScatterElements<axis=0, reduction="add">(image, at, new) }',
            "part/ScatterElements_0: ScatterElements with a reduction",
        ),
        (
            "g (float[1,3] image) => (float[1,3] logits) { m = ReduceMean(image)  d = Sub(image, m)"
            "  p = Mul(d, d)  v = ReduceMean(p)  s = Sqrt(v)  logits = Div(d, s) }",
            "part/Sub_1: a LayerNorm taken apart",
        ),
        (
            "g (float[1,2,4] image) => (float[1,2,4] logits) { t = Transpose<perm=[0,2,1]>(image)"
            "  s = MatMul(image, t)  c = Constant<value_float=0.5>()  m = Mul(c, s)  p = Softmax(m)"
            "  logits = MatMul(p, image) }",
            "part/Mul_3: scales the attention scores",
        ),
        (
            "g (float[1,2,4] image, float[1,1,2] mask) => (float[1,2,4] logits) { t = Transpose<perm=[0,2,1]>(image)"
            "  s = MatMul(image, t)  c = Constant<value_float=0.5>()  m = Div(s, c)  a = Add(mask, m)"
            "  p = Softmax(a)  logits = MatMul(p, image) }",
            "part/Div_3: scales the attention scores",
        ),
    ],
)
def test_each_rule_names_the_node_that_breaks_it(text: str, says: str) -> None:
    with pytest.raises(CheckFailed, match="may not leave the exporter") as failure:
        check_graph(named(model_of(text)))
    assert says in str(failure.value)


def test_an_operator_of_another_domain_is_refused() -> None:
    model = model_of("g (float[1,3] image) => (float[1,3] logits) { logits = Relu(image) }")
    node = next(iter(model.graph))
    node.name, node.domain = "head/Gelu", "com.microsoft"
    with pytest.raises(CheckFailed, match=r"head/Gelu: com\.microsoft\.Relu is no ONNX operator"):
        check_graph(model)


def test_metadata_with_a_path_is_refused() -> None:
    model = model_of("g (float[1,3] image) => (float[1,3] logits) { logits = Relu(image) }")
    node = next(iter(model.graph))
    node.name = "head/Relu"
    node.metadata_props["pkg.torch.onnx.stack_trace"] = 'File "model.py", line 1'
    with pytest.raises(CheckFailed, match="head/Relu: carries metadata"):
        check_graph(model)


def test_a_branch_is_refused() -> None:
    text = (
        "g (bool b, float[1,3] image) => (float[1,3] logits) { logits = If (b) <"
        " then_branch = t () => (float[1,3] y) { y = Relu(image) },"
        " else_branch = e () => (float[1,3] z) { z = Identity(image) }> }"
    )
    with pytest.raises(CheckFailed, match="If belongs in an adaptive graph"):
        check_graph(named(model_of(text)))


def test_a_forbidden_operator_inside_a_branch_is_found_too() -> None:
    text = (
        "g (bool b, float[1,3] image) => (float[1,3] logits) { logits = If (b) <"
        " then_branch = t () => (float[1,3] y) { k = NonZero(image)  f = Cast<to=1>(k)"
        "  s = ReduceSum<keepdims=0>(f)  y = Add(image, s) },"
        " else_branch = e () => (float[1,3] z) { z = Identity(image) }> }"
    )
    with pytest.raises(CheckFailed, match=r"NonZero makes shapes depend on data \(and [0-9]+ more\)"):
        check_graph(named(model_of(text)))


def test_a_weight_stored_twice_is_named_with_its_twin() -> None:
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    tensors = [numpy_helper.from_array(weight, name) for name in ("first", "second")]
    nodes = [
        helper.make_node("MatMul", ["image", "first"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["logits"]),
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 64]) for name in ("image", "logits")]
    model = ir.from_proto(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)))
    with pytest.raises(CheckFailed, match="second: the same weight as first, stored twice"):
        check_graph(model)
