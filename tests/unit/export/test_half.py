from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from half_graphs import by_name, casts, graph_of, run, two_layers, valid

from edgevit.errors import CheckFailed, InputError
from edgevit.export.half import Half, float_names, lower
from edgevit.export.islands import islands
from edgevit.export.pipeline import Graph
from edgevit.export.shapes import with_shapes

HALF = ir.DataType.FLOAT16


def types(model: ir.Model) -> dict[str, ir.DataType | None]:
    return {str(value.name): value.dtype for node in with_shapes(model).graph for value in node.outputs}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("mode", ["topk", "mask"])
def test_a_model_is_lowered_to_a_valid_graph_with_its_ends_as_they_were(
    tiny_graph: Callable[[str], Graph], mode: str, precision: Half
) -> None:
    model = ir.from_proto(onnx.load_from_string(tiny_graph(mode).onnx))
    ends = [(value.name, value.dtype, value.shape) for value in (*model.graph.inputs, *model.graph.outputs)]
    lower(model, precision, [island.node for island in islands(model, {}, precision)])
    valid(model)
    assert [(value.name, value.dtype, value.shape) for value in (*model.graph.inputs, *model.graph.outputs)] == ends


def test_no_value_is_cast_twice_to_a_type_nor_back_again(tiny_graph: Callable[[str], Graph]) -> None:
    model = ir.from_proto(onnx.load_from_string(tiny_graph("topk").onnx))
    lower(model, "fp16", [island.node for island in islands(model, {}, "fp16")])
    made = Counter((node.inputs[0], node.attributes["to"].as_int()) for node in casts(model))
    assert max(made.values()) == 1
    floating = [node for node in casts(model) if node.attributes["to"].as_int() in (1, 10)]
    before = [node.inputs[0].producer() for node in floating if node.inputs[0] is not None]
    assert floating
    assert not [node for node in before if node is not None and node in floating]


def test_shared_weights_stay_stored_once_and_halve(tiny_graph: Callable[[str], Graph]) -> None:
    model = ir.from_proto(onnx.load_from_string(tiny_graph("topk").onnx))
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    lower(model, "fp16", [island.node for island in islands(model, {}, "fp16")])
    matrices = [name for name, tensor in before.items() if tensor is not None and tensor.size > 1000]
    assert matrices
    for name in matrices:
        stored = model.graph.initializers[name].const_value
        assert stored is not None
        assert stored.dtype == HALF
    assert len(model.graph.initializers) <= len(before) + 8  # small constants that both sides use


def test_casts_stand_at_the_border_of_an_island_alone() -> None:
    model = two_layers()
    lower(model, "fp16", ["norm"])
    valid(model)
    found = types(model)
    assert found["normed"] == ir.DataType.FLOAT
    # In, to the island, from the island, out.
    assert len(casts(model)) == 4
    assert [model.graph.initializers[name].dtype for name in ("w0", "g", "w1")] == [HALF, ir.DataType.FLOAT, HALF]


def test_a_graph_kept_whole_is_not_touched() -> None:
    model = two_layers()
    before = ir.to_proto(model).SerializeToString()
    lower(model, "fp16", [str(node.name) for node in model.graph])
    assert ir.to_proto(model).SerializeToString() == before


def test_moves_between_kept_nodes_stay_in_fp32() -> None:
    body = """
        flat = Flatten(image)
        [a] left = Exp(flat)
        [turn] turned = Transpose <perm = [1, 0]> (left)
        [b] right = Exp(turned)
        back = Transpose <perm = [1, 0]> (right)
        logits = MatMul(back, w)
    """
    model = graph_of(body, {"w": np.ones((48, 4), np.float32)})
    lower(model, "fp16", ["a", "b"])
    valid(model)
    assert types(model)["turned"] == ir.DataType.FLOAT
    assert types(model)["back"] == HALF


@pytest.mark.parametrize("low_uses", [1, 2])
def test_a_weight_of_both_sides_is_stored_as_most_use_it(low_uses: int) -> None:
    weight = np.random.default_rng(0).standard_normal((48, 48)).astype(np.float32)
    body = """
        flat = Flatten(image)
        [low] x1 = MatMul(flat, w)
        [either] x2 = MatMul(x1, w)
        [high] x3 = MatMul(x2, w)
        logits = MatMul(x3, v)
    """
    model = graph_of(body, {"w": weight, "v": np.ones((48, 4), np.float32)})
    lower(model, "fp16", ["high"] if low_uses == 2 else ["high", "either"])
    valid(model)
    assert sorted(model.graph.initializers) == ["v", "w"]
    stored = model.graph.initializers["w"].dtype
    assert stored == (HALF if low_uses == 2 else ir.DataType.FLOAT)
    reads = [node.inputs[1] for node in model.graph if node.op_type == "MatMul"]
    assert (
        len({value for value in reads if value is not model.graph.initializers["v"]}) == 2
    )  # the weight, and its cast


def test_a_small_constant_of_both_sides_is_stored_in_both_types() -> None:
    body = "flat = Flatten(image)  [a] x = Mul(flat, s)  [b] y = Mul(x, s)  logits = MatMul(y, w)"
    model = graph_of(body, {"s": np.array(0.25, np.float32), "w": np.ones((48, 4), np.float32)})
    lower(model, "fp16", ["a"])
    valid(model)
    assert sorted(str(value.dtype) for value in model.graph.initializers.values()) == ["FLOAT", "FLOAT16", "FLOAT16"]


def test_a_value_that_is_an_output_too_keeps_its_name_and_type() -> None:
    ends = "(float[1,3,4,4] image) => (float[1,48] hidden, float[1,4] logits)"
    body = "flat = Flatten(image)  hidden = Relu(flat)  logits = MatMul(hidden, w)"
    model = graph_of(body, {"w": np.ones((48, 4), np.float32)}, ends)
    lower(model, "fp16")
    valid(model)
    assert [(value.name, value.dtype) for value in model.graph.outputs] == [
        ("hidden", ir.DataType.FLOAT), ("logits", ir.DataType.FLOAT),
    ]  # fmt: skip
    assert by_name(model, "graph/MatMul_2").inputs[0] is not model.graph.outputs[0]


def test_quantized_linears_go_along_in_half() -> None:
    body = """
        flat = Flatten(image)
        q = QuantizeLinear(flat, sx, zero)
        x = DequantizeLinear(q, sx, zero)
        v = DequantizeLinear <axis = 1> (w, sw, zeros)
        [product] y = MatMul(x, v)
        [norm] logits = LayerNormalization(y, g, b)
    """
    weights = {
        "sx": np.array(0.03, np.float32), "zero": np.array(0, np.int8), "w": np.ones((48, 4), np.int8),
        "sw": np.full(4, 0.01, np.float32), "zeros": np.zeros(4, np.int8), "g": np.ones(4, np.float32),
        "b": np.zeros(4, np.float32),
    }  # fmt: skip
    model = graph_of(body, weights)
    lower(model, "fp16", ["norm"])
    valid(model)
    assert (types(model)["y"], model.graph.initializers["sw"].dtype) == (HALF, HALF)
    assert model.graph.initializers["w"].dtype == ir.DataType.INT8


def test_a_q_behind_an_island_takes_its_fp32_without_a_cast() -> None:
    body = """
        flat = Flatten(image)
        [norm] normed = LayerNormalization(flat, g, b)
        q = QuantizeLinear(normed, s, zero)
        x = DequantizeLinear(q, s, zero)
        logits = MatMul(x, w)
    """
    weights = {
        "g": np.ones(48, np.float32), "b": np.zeros(48, np.float32), "s": np.array(0.03, np.float32),
        "zero": np.array(0, np.int8), "w": np.ones((48, 4), np.float32),
    }  # fmt: skip
    model = graph_of(body, weights)
    lower(model, "fp16", ["norm"])
    valid(model)
    assert [node.outputs[0].name for node in casts(model)] == ["logits"]
    assert types(model)["x"] == HALF


def test_a_weight_beyond_the_type_is_refused_where_nothing_keeps_its_node() -> None:
    model = two_layers(scale=1e5)
    with pytest.raises(CheckFailed, match=r"w0: a weight of .* is no number in FLOAT16"):
        lower(model, "fp16", ["norm"])
    lower(two_layers(scale=1e5), "bf16", ["norm"])


def test_a_name_of_no_node_is_refused() -> None:
    with pytest.raises(InputError, match=r"no node blocks\.9"):
        lower(two_layers(), "fp16", ["blocks.9"])


def test_branches_are_refused() -> None:
    body = """
        flat = Flatten(image)
        logits = If (yes) <
            then_branch = a () => (float[1,4] left) { left = MatMul(flat, w) },
            else_branch = b () => (float[1,4] right) { right = MatMul(flat, w) }
        >
    """
    model = graph_of(body, {"yes": np.array(True), "w": np.ones((48, 4), np.float32)})
    with pytest.raises(InputError, match="graphs without branches"):
        lower(model, "fp16")


def test_a_graph_that_holds_halves_already_is_refused() -> None:
    model = two_layers()
    lower(model, "fp16", ["norm"])
    with pytest.raises(InputError, match="wanted a graph in fp32"):
        float_names(model)


def test_a_kept_part_computes_as_before() -> None:
    """Everything but the input's and the output's move is kept, so that only they could round."""
    model = two_layers()
    image = np.random.default_rng(1).standard_normal((1, 3, 4, 4)).astype(np.float32)
    before = run(model, image)["logits"]
    lower(model, "fp16", ["first", "norm", "second"])
    np.testing.assert_array_equal(run(model, image)["logits"], before)


def test_onnxruntimes_converter_rounds_what_is_ranked_and_breaks_shared_weights(
    tiny_graph: Callable[[str], Graph],
) -> None:
    """Why there is a pass of our own: the same islands asked of the well-kept tool."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto = onnx.load_from_string(tiny_graph("topk").onnx)
    keep = [island.node for island in islands(ir.from_proto(proto), {}, "fp16")]
    made = convert_float_to_float16(proto, keep_io_types=True, node_block_list=keep, op_block_list=[])
    makers = {name: node for node in made.graph.node for name in node.output}
    ranked = next(node for node in made.graph.node if node.op_type == "TopK" and "TopK" in node.name)
    back = makers[ranked.input[0]]
    there = makers[back.input[0]]
    assert [(node.op_type, node.attribute[0].i) for node in (there, back)] == [("Cast", 10), ("Cast", 1)]
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(made)
