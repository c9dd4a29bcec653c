"""The passes one by one, on graphs small enough to read."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from edgevit.export.cost import count
from edgevit.export.fold_constants import fold_constants
from edgevit.export.name_nodes import name_new_nodes, name_nodes
from edgevit.export.scale_queries import scale_queries
from edgevit.export.shapes import with_shapes
from edgevit.export.share_weights import share_weights, strip_notes
from edgevit.export.simplify import simplified

SIDE = 48


def two_uses_of_a_transposed_weight() -> ir.Model:
    """logits = (image W^T) W^T with a Transpose node for each use, as an unrolled graph has them."""
    weight = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["w"], ["t0"], perm=[1, 0]),
        helper.make_node("MatMul", ["image", "t0"], ["hidden"]),
        helper.make_node("Transpose", ["w"], ["t1"], perm=[1, 0]),
        helper.make_node("MatMul", ["hidden", "t1"], ["logits"]),
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, SIDE]) for name in ("image", "logits")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def answer(model: ir.Model) -> np.ndarray:
    image = np.random.default_rng(1).standard_normal((1, SIDE)).astype(np.float32)
    return ReferenceEvaluator(ir.to_proto(model)).run(None, {"image": image})[0]


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_transposes_of_a_shared_weight_fold_into_one_stored_weight() -> None:
    model = two_uses_of_a_transposed_weight()
    before = answer(model)
    fold_constants(model)
    share_weights(model)
    assert operators(model) == ["MatMul", "MatMul"]
    assert len(model.graph.initializers) == 1
    np.testing.assert_allclose(answer(model), before, rtol=1e-4)


def test_stripping_leaves_no_note_and_no_inner_shape() -> None:
    model = two_uses_of_a_transposed_weight()
    model.metadata_props["where"] = "here"
    model.doc_string = "made here"
    for node in model.graph:
        node.metadata_props["pkg.torch.onnx.stack_trace"] = "line 1"
        node.doc_string = "line 1"
    strip_notes(model)
    proto = ir.to_proto(model)
    assert b"line 1" not in proto.SerializeToString()
    assert b"here" not in proto.SerializeToString()
    assert {info.name for info in proto.graph.value_info} == {"w"}, "weights keep their shape, inner values lose it"
    assert proto.producer_name == "edgevit"


def test_a_rewrite_that_shortens_is_kept_and_answers_alike() -> None:
    text = """<ir_version: 10, opset_import: ["" : 20]>
    g (float[1,4] image) => (float[1,4] logits) {
        a = Identity(image)  b = Transpose<perm=[1,0]>(a)  c = Transpose<perm=[1,0]>(b)  logits = Relu(c)
    }"""
    shorter = simplified(ir.from_proto(parser.parse_model(text)))
    assert shorter is not None
    assert operators(shorter) == ["Relu"]


def test_a_graph_that_cannot_be_shortened_is_left_alone() -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (float[1,4] image) => (float[1,4] logits) { logits = Relu(image) }'
    )
    assert simplified(ir.from_proto(parser.parse_model(text))) is None


def node_of(kind: str, scopes: list[str] | None, source: str, target: str) -> onnx.NodeProto:
    node = helper.make_node(kind, [source], [target])
    if scopes is not None:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=str(scopes))
    return node


def test_nodes_are_named_after_module_and_recursion_step() -> None:
    norm = ["", "model.blocks.0", "model.blocks.0.norm1.1", "layer_norm"]
    mlp = ["", "model.blocks.0", "model.blocks.0.mlp", "linear"]
    head = ["", "model.head", "linear"]
    # The second pass follows the first at once, as in a stack of one block.
    scopes = [["", "model.stem", "conv"], norm, mlp, norm, mlp, None, ["", "add"], head, ["", "model.norm", "x"], head]
    values = ["image", *"abcdefghi", "logits"]
    nodes = [node_of("Relu", s, values[i], values[i + 1]) for i, s in enumerate(scopes)]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2]) for name in ("image", "logits")]
    model = ir.from_proto(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:])))
    name_nodes(model)
    assert [node.name for node in model.graph] == [
        "stem/Relu",
        "blocks.0[0].norm1.1/Relu",
        "blocks.0[0].mlp/Relu",
        "blocks.0[1].norm1.1/Relu",
        "blocks.0[1].mlp/Relu",
        "blocks.0[1].mlp/Relu_1",
        "graph/Relu",
        "head/Relu",
        "norm/Relu",
        "head/Relu_1",
    ]
    model.graph[4].name = "made by a rewriter"
    name_new_nodes(model)
    assert model.graph[4].name == "blocks.0[1].norm1.1/Relu_1"


@pytest.mark.parametrize(
    "text, flops",
    [
        # 2 x 5 results of 3 multiply-adds
        ("g (float[2,3] image, float[3,5] w) => (float[2,5] logits) { logits = MatMul(image, w) }", 2 * 2 * 5 * 3),
        # a batch of 4 products
        ("g (float[4,2,3] image, float[4,3,5] w) => (float[4,2,5] logits) { logits = MatMul(image, w) }", 2 * 4 * 30),
        ("g (float[3,2] image, float[3,5] w) => (float[2,5] logits) { logits = Gemm<transA=1>(image, w) }", 60),
        # 6 channels of 4 x 4 results, each over 3 channels of 2 x 2
        (
            "g (float[1,3,8,8] image, float[6,3,2,2] w) => (float[1,6,4,4] logits)"
            " { logits = Conv<strides=[2,2]>(image, w) }",
            2 * 6 * 16 * 12,
        ),
        # depthwise: each over one channel
        (
            "g (float[1,3,4,4] image, float[3,1,2,2] w) => (float[1,3,3,3] logits)"
            " { logits = Conv<group=3>(image, w) }",
            2 * 27 * 4,
        ),
        ("g (float[2,3] image) => (float[2,3] logits) { logits = Relu(image) }", 0),
    ],
)
def test_flops_are_two_for_each_multiply_add(text: str, flops: int) -> None:
    model = ir.from_proto(parser.parse_model('<ir_version: 10, opset_import: ["" : 20]> ' + text))
    for node in model.graph:
        node.name = f"blocks.0[1].mlp/{node.op_type}"
    cost = count(with_shapes(model))
    assert cost.flops == flops
    assert cost.flops_by_module == ({"blocks.0[1]": flops} if flops else {})
    assert cost.nodes == 1


def test_a_product_that_is_not_counted_is_named() -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (float[2,3] image, float[3,5] w) => (float[2,5] logits)'
        ' { logits = Einsum<equation="ij,jk->ik">(image, w) }'
    )
    assert count(with_shapes(ir.from_proto(parser.parse_model(text)))).uncounted == ("Einsum",)


ATTENTION = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[2,6,4] image, float[2,4,6] k) => (float[2,6,6] logits)
<float factor = {{0.5}}, float[6] mask = {{0.0, 3.0, -2.0, 1.0, 0.5, -9.0}}, float[4] wide = {{1.0, 2.0, 3.0, 4.0}}>
{{ {body} }}
"""


def attention(body: str) -> ir.Model:
    return ir.from_proto(parser.parse_model(ATTENTION.format(body=body)))


@pytest.mark.parametrize(
    "body",
    [
        "s = MatMul(image, k) t = Mul(s, factor) logits = Softmax<axis = -1>(t)",
        "s = MatMul(image, k) t = Mul(factor, s) logits = Softmax<axis = -1>(t)",
        "s = MatMul(image, k) t = Div(s, factor) u = Add(t, mask) logits = Softmax<axis = -1>(u)",
        "s = MatMul(image, k) t = Mul(s, factor) u = Add(mask, t) logits = Softmax<axis = -1>(u)",
    ],
)
def test_a_factor_of_the_scores_goes_to_the_queries(body: str) -> None:
    rng = np.random.default_rng(3)
    feeds = {"image": rng.standard_normal((2, 6, 4)), "k": rng.standard_normal((2, 4, 6))}
    feeds = {name: value.astype(np.float32) for name, value in feeds.items()}
    model = attention(body)
    before = ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)[0]
    scale_queries(model)
    assert operators(model)[:2] in (["Mul", "MatMul"], ["Div", "MatMul"])
    np.testing.assert_allclose(ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)[0], before, rtol=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        # of a query each, which is no factor of the scores; divided by the scores; read by somebody else
        "q = Mul(image, wide) s = MatMul(q, k) logits = Softmax<axis = -1>(s)",
        "s = MatMul(image, k) t = Div(factor, s) logits = Softmax<axis = -1>(t)",
        "s = MatMul(image, k) t = Mul(s, factor) u = Softmax<axis = -1>(t) logits = Add(u, s)",
    ],
)
def test_scores_that_are_not_simply_scaled_are_left_alone(body: str) -> None:
    model = attention(body)
    before = operators(model)
    scale_queries(model)
    assert operators(model) == before
