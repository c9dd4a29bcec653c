"""Attention written out becomes one operator, and answers as attention by its definition does."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgevit.export.fuse_attention import fuse_attention
from edgevit.export.shapes import with_shapes
from edgevit.runtimes.ort import OrtRunner

HEADS, SIZE = 2, 4
WIDTH = HEADS * SIZE


def written_out(
    batch: int,
    length: int,
    *,
    scale: float | None = 0.5,
    mask: tuple[int, ...] | None = None,
    keys_out: bool = False,
    perm_of_keys: tuple[int, ...] = (0, 1, 3, 2),
    axis: int = -1,
) -> ir.Model:
    """The nodes that the exporter leaves of an attention over `image`, B x L x 1 x 3D; the mask is an initializer."""
    numbers = {
        "packed_shape": np.array([batch, length, 3 * HEADS, SIZE]),
        "flat_shape": np.array([batch, length, WIDTH]),
    }
    node = helper.make_node
    nodes = [
        node("Reshape", ["image", "packed_shape"], ["apart"], "blocks.0.attention/Reshape@7"),
        node("Transpose", ["apart"], ["heads"], "blocks.0.attention/Transpose@7", perm=(0, 2, 1, 3)),
        node("Split", ["heads"], ["q", "k", "v"], "blocks.0.attention/Split@7", axis=1, num_outputs=3),
        node("Transpose", ["k"], ["kt"], "blocks.0.attention/Transpose_1@7", perm=perm_of_keys),
    ]
    if scale is not None:
        numbers["factor"] = np.array(scale, np.float32)
        nodes.append(node("Mul", ["q", "factor"], ["scaled"], "blocks.0.attention/Mul@7"))
    queries = "q" if scale is None else "scaled"
    nodes.append(node("MatMul", [queries, "kt"], ["scores"], "blocks.0.attention/MatMul@7"))
    if mask is not None:
        numbers["mask"] = np.random.default_rng(5).standard_normal(mask).astype(np.float32)
        nodes.append(node("Add", ["mask", "scores"], ["masked"], "blocks.0.attention/Add@7"))
    nodes += [
        node(
            "Softmax", ["scores" if mask is None else "masked"], ["weights"], "blocks.0.attention/Softmax@7", axis=axis
        ),
        node("MatMul", ["weights", "v"], ["weighed"], "blocks.0.attention/MatMul_1@7"),
        node("Transpose", ["weighed"], ["turned"], "blocks.0.attention/Transpose_2@7", perm=(0, 2, 1, 3)),
        node("Reshape", ["turned", "flat_shape"], ["logits"], "blocks.0.attention/Reshape_1@7"),
    ]
    value = helper.make_tensor_value_info
    outputs = [value("logits", TensorProto.FLOAT, [batch, length, WIDTH])]
    if keys_out:
        outputs.append(value("k", TensorProto.FLOAT, [batch, HEADS, length, SIZE]))
    image = value("image", TensorProto.FLOAT, [batch, length, 1, 3 * WIDTH])
    stored = [numpy_helper.from_array(array, name) for name, array in numbers.items()]
    graph = helper.make_graph(nodes, "main", [image], outputs, stored)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10))


def attention(image: np.ndarray, scale: float, mask: np.ndarray | None) -> np.ndarray:
    """By its definition, token by token and head by head."""
    batch, length = image.shape[:2]
    packed = image.reshape(batch, length, 3, HEADS, SIZE).astype(np.float64)
    answer = np.zeros((batch, length, HEADS, SIZE))
    whole = (
        np.zeros((batch, HEADS, length, length))
        if mask is None
        else np.broadcast_to(mask, (batch, HEADS, length, length))
    )
    for b in range(batch):
        for h in range(HEADS):
            for i in range(length):
                scores = [scale * packed[b, i, 0, h] @ packed[b, j, 1, h] + whole[b, h, i, j] for j in range(length)]
                weights = np.exp(np.array(scores) - max(scores))
                answer[b, i, h] = (weights / weights.sum()) @ packed[b, :, 2, h]
    return answer.reshape(batch, length, WIDTH)


def run(model: ir.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    with OrtRunner(ir.to_proto(model).SerializeToString()) as runner:
        return runner(image)


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 6),
    scale=st.sampled_from([None, 0.5, 2.0]),
    masked=st.sampled_from(
        [None, "of keys", "whole", "of heads", "of queries", "flat", "row", "by heads", "one number"]
    ),
)
@settings(deadline=None, max_examples=40)
def test_one_operator_answers_as_the_definition(
    batch: int, length: int, scale: float | None, masked: str | None
) -> None:
    shapes = {
        "of keys": (batch, 1, 1, length),
        "whole": (batch, 1, length, length),
        "of heads": (1, HEADS, length, length),
        "of queries": (1, 1, length, 1),
        "flat": (length, length),
        "row": (length,),
        "by heads": (HEADS, length, length),
        "one number": (),
    }
    mask = None if masked is None else shapes[masked]
    model = written_out(batch, length, scale=scale, mask=mask)
    numbers = None if mask is None else model.graph.initializers["mask"].const_value.numpy()
    fuse_attention(model)
    assert ("Attention" in operators(model)) == (length > 1)
    assert not {"Softmax", "Transpose", "MatMul"} & set(operators(model))
    image = np.random.default_rng(1).standard_normal((batch, length, 1, 3 * WIDTH), dtype=np.float32)
    wanted = attention(image, 1.0 if scale is None else scale, numbers)
    np.testing.assert_allclose(run(model, image)["logits"], wanted, atol=2e-5)


def test_one_token_alone_is_its_value() -> None:
    model = written_out(2, 1)
    fuse_attention(model)
    assert set(operators(model)) == {"Reshape", "Slice"}


def test_keys_that_something_else_reads_stay_for_it() -> None:
    model = written_out(1, 3, keys_out=True)
    image = np.random.default_rng(2).standard_normal((1, 3, 1, 3 * WIDTH), dtype=np.float32)
    before = run(model, image)
    fuse_attention(model)
    assert "Attention" in operators(model) and "Softmax" not in operators(model)
    after = run(model, image)
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, atol=1e-5)


def test_what_is_no_attention_over_thirds_stays_as_it_is() -> None:
    # With L = d both products fit, but the keys are not turned as attention turns them.
    model = written_out(1, SIZE, perm_of_keys=(0, 1, 2, 3))
    before = operators(model)
    fuse_attention(model)
    assert operators(model) == before


def test_a_softmax_over_queries_is_no_attention() -> None:
    model = written_out(1, 3, axis=-2)
    before = operators(model)
    fuse_attention(model)
    assert operators(model) == before


def test_new_nodes_belong_to_their_module_and_rung() -> None:
    model = written_out(1, 3, mask=(1, 1, 1, 3))
    fuse_attention(model)
    names = [str(node.name) for node in model.graph]
    assert len(names) == len(set(names))
    assert all(name.startswith("blocks.0.attention/") and name.endswith("@7") for name in names)


def test_a_mask_of_keys_is_spread_once_for_all_that_use_it() -> None:
    model = written_out(1, 3, mask=(1, 1, 1, 3))
    second = written_out(1, 3, mask=(1, 1, 1, 3))
    # Two attentions of one step, over the same tokens, with the same mask.
    first, other = model.graph, second.graph
    copies: dict[ir.Value, ir.Value] = {other.inputs[0]: first.inputs[0]}
    copies |= {value: first.initializers[name] for name, value in other.initializers.items()}
    for node in list(other):
        copied = ir.Node(
            node.domain, node.op_type, [copies[value] for value in node.inputs if value], node.attributes,
            num_outputs=len(node.outputs), name=str(node.name).replace("blocks.0", "blocks.1"),
        )  # fmt: skip
        for old, new in zip(node.outputs, copied.outputs, strict=True):
            new.name, copies[old] = f"{old.name}_again", new
        first.append(copied)
    result = copies[other.outputs[0]]
    result.shape, result.type = other.outputs[0].shape, other.outputs[0].type
    first.outputs.append(result)
    fuse_attention(model)
    assert operators(model).count("Attention") == 2
    assert operators(model).count("Expand") == 1
    assert all(value.shape is not None for node in with_shapes(model).graph for value in node.outputs)


@pytest.mark.parametrize("place", ["then_branch", "else_branch"])
def test_branches_are_fused_too(place: str) -> None:
    inner = ir.to_proto(written_out(1, 3)).graph
    for info in list(inner.input):
        inner.input.remove(info)
    other = helper.make_graph(
        [helper.make_node("Identity", ["zeros"], ["nothing"])],
        "other",
        [],
        [helper.make_tensor_value_info("nothing", TensorProto.FLOAT, [1, 3, WIDTH])],
        [numpy_helper.from_array(np.zeros((1, 3, WIDTH), np.float32), "zeros")],
    )
    branches = {place: inner, "else_branch" if place == "then_branch" else "then_branch": other}
    choice = helper.make_node("If", ["which"], ["answer"], **branches)
    graph = helper.make_graph(
        [choice],
        "main",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 1, 3 * WIDTH])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 3, WIDTH])],
        [numpy_helper.from_array(np.array(place == "then_branch"), "which")],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10))
    image = np.random.default_rng(3).standard_normal((1, 3, 1, 3 * WIDTH), dtype=np.float32)
    before = run(model, image)["answer"]
    fuse_attention(model)
    assert [node.op_type for node in model.graph.all_nodes()].count("Attention") == 1
    np.testing.assert_allclose(run(model, image)["answer"], before, atol=1e-5)
