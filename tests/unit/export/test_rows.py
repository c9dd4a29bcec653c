"""Norms, linears and sums over rows: the same answers with fewer nodes, in branches and for batches too."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from edgevit.export.rows import keep_rows
from edgevit.export.shapes import with_shapes
from edgevit.runtimes.ort import OrtRunner

LENGTH, WIDTH, HIDDEN = 5, 4, 6
SIZES = {
    "scale": (WIDTH,), "shift": (WIDTH,),
    "w1": (WIDTH, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, WIDTH), "b2": (WIDTH,),
}  # fmt: skip


def block(batch: int, *, more: str = "", output: str = "out", result: str = "") -> ir.Model:
    """A block without its attention, over `image`: B x L x 1 x D."""
    shape = f"float[{batch},{LENGTH},{WIDTH}]"
    model = parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        main (float[{batch},{LENGTH},1,{WIDTH}] image) => ({result or shape} {output})
        <int64[3] sides = {{{batch}, {LENGTH}, {WIDTH}}}>
        {{
            x = Reshape(image, sides)
            normed = LayerNormalization<axis = -1>(x, scale, shift)
            product = MatMul(normed, w1)
            hidden = Add(product, b1)
            active = Gelu(hidden)
            back = MatMul(active, w2)
            biased = Add(b2, back)
            out = Add(x, biased)
            {more}
        }}"""
    )
    return with_weights(model)


def with_weights(proto: onnx.ModelProto) -> ir.Model:
    """With the weights that the text only names, and a name for each node."""
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(size, dtype=np.float32), name))
    model = ir.from_proto(proto)
    for place, node in enumerate(model.graph.all_nodes()):
        node.name = f"blocks.{place}/{node.op_type}"
    return model


def run(model: ir.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    with OrtRunner(ir.to_proto(model).SerializeToString()) as runner:
        return runner(image)


def compared(model: ir.Model, batch: int = 1) -> Counter[str]:
    """The operators after the rewrite, once it was seen to answer alike."""
    image = np.random.default_rng(1).standard_normal((batch, LENGTH, 1, WIDTH), dtype=np.float32)
    before = run(model, image)
    keep_rows(model)
    after = run(model, image)
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert after[name].shape == value.shape
        np.testing.assert_allclose(after[name], value, atol=1e-5)
    names = [node.name for node in model.graph.all_nodes()]
    assert len(names) == len(set(names))
    return Counter(node.op_type for node in model.graph.all_nodes())


@pytest.mark.parametrize("batch", [1, 3])
def test_a_block_reshapes_once_on_the_way_in_and_once_on_the_way_out(batch: int) -> None:
    counts = compared(block(batch), batch)
    # The image's own Reshape and that to rows; the answer is in tokens again.
    assert counts == {"Reshape": 3, "LayerNormalization": 1, "Gemm": 2, "Gelu": 1, "Add": 1}


def test_a_product_without_a_bias_stays_a_product_of_rows() -> None:
    model = block(1, more="plain = MatMul(out, w1)", output="plain", result=f"float[1,{LENGTH},{HIDDEN}]")
    counts = compared(model)
    assert (counts["Gemm"], counts["MatMul"]) == (2, 1)


def test_reshapes_to_rows_and_back_go() -> None:
    more = f"""
        flat = Constant<value_ints = [{LENGTH}, {WIDTH}]>()
        rows = Reshape(out, flat)
        again = Reshape(rows, sides)
        last = LayerNormalization<axis = -1>(again, scale, shift)"""
    counts = compared(block(1, more=more, output="last"))
    assert counts["Reshape"] == 3


def test_a_gate_for_each_token_multiplies_rows() -> None:
    more = f"""
        picked = Constant<value_ints = [0]>()
        gate = Gather<axis = 2>(image, picked)
        ends = Constant<value_ints = [1, {LENGTH}, 1]>()
        first = Constant<value_ints = [0]>()
        last = Constant<value_ints = [1]>()
        axis = Constant<value_ints = [3]>()
        one = Slice(gate, first, last, axis)
        each = Reshape(one, ends)
        gated = Mul(each, out)
        sum = Add(x, gated)"""
    counts = compared(block(1, more=more, output="sum"))
    assert counts["Mul"] == 1 and counts["Add"] == 2


@pytest.mark.parametrize("batch, axis", [(1, 0), (3, 1)])
def test_tokens_put_behind_others_are_rows_behind_rows_for_one_image_alone(batch: int, axis: int) -> None:
    model = block(
        batch, more="both = Concat<axis = 1>(x, out)", output="both", result=f"float[{batch},{2 * LENGTH},{WIDTH}]"
    )
    compared(model, batch)
    (concat,) = [node for node in model.graph if node.op_type == "Concat"]
    assert concat.attributes["axis"].as_int() == axis


def test_what_looks_at_several_tokens_sees_them_as_before() -> None:
    more = """
        turned = Transpose<perm = [0, 2, 1]>(out)
        among = MatMul(out, turned)
        chance = Softmax<axis = -1>(among)
        mixed = MatMul(chance, out)"""
    counts = compared(block(2, more=more, output="mixed"), 2)
    assert counts["MatMul"] == 2 and counts["Gemm"] == 2


def test_nothing_of_other_dimensions_is_touched() -> None:
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
        main (float[1,2,3,{WIDTH}] image) => (float[1,2,3,{HIDDEN}] out)
        {{
            normed = LayerNormalization<axis = -1>(image, scale, shift)
            product = MatMul(normed, w1)
            out = Add(product, b1)
        }}"""
    model = with_weights(parser.parse_model(text))
    before = [node.op_type for node in model.graph]
    keep_rows(model)
    assert [node.op_type for node in model.graph] == before


def test_a_branch_reads_the_rows_that_stand_outside() -> None:
    more = f"""
        total = ReduceSum<keepdims = 0>(image)
        zero = Constant<value_float = 0.0>()
        which = Greater(total, zero)
        chosen = If (which) <
            then_branch = twice () => (float[1,{LENGTH},{WIDTH}] t)
            {{
                again = LayerNormalization<axis = -1>(out, scale, shift)
                p = MatMul(again, w1)
                h = Add(p, b1)
                q = MatMul(h, w2)
                t = Add(out, q)
            }},
            else_branch = once () => (float[1,{LENGTH},{WIDTH}] e) {{ e = Identity(out) }}
        >"""
    model = block(1, more=more, output="chosen")
    for sign in (1, -1):
        image = sign * np.abs(np.random.default_rng(1).standard_normal((1, LENGTH, 1, WIDTH), dtype=np.float32))
        before = run(model, image)
        changed = ir.from_proto(ir.to_proto(model))
        keep_rows(changed)
        np.testing.assert_allclose(run(changed, image)["chosen"], before["chosen"], atol=1e-5)
    (choice,) = [node for node in changed.graph if node.op_type == "If"]
    taken = choice.attributes["then_branch"].as_graph()
    # Its own reshape is that of its answer: what it reads stands as rows already.
    assert Counter(node.op_type for node in taken)["Reshape"] == 1
    assert all(value.shape is not None for node in with_shapes(changed).graph.all_nodes() for value in node.outputs)
