from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from half_graphs import graph_of, open_graph, run, two_layers
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgevit.export.emulate import emulated
from edgevit.export.half import Half, lower
from edgevit.export.islands import islands
from edgevit.export.pipeline import Graph
from edgevit.runtimes.ort import OrtRunner

DTYPES = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
CODES = {"fp16": 10, "bf16": 16}
AT_ONCE = 4096
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def rounding(precision: str) -> Callable[[np.ndarray], np.ndarray]:
    """What ONNX Runtime, with every optimization on, gives for numbers rounded by emulation."""
    ends = "(float[1,1,64,64] image) => (float[1,1,64,64] logits)"
    model = graph_of(f"half = Cast <to = {CODES[precision]}> (image)  logits = Cast <to = 1> (half)", ends=ends)
    runner = open_graph(ir.to_proto(emulated(model)).SerializeToString())

    def rounded(numbers: np.ndarray) -> np.ndarray:
        filled = np.concatenate([numbers, np.zeros(-len(numbers) % AT_ONCE, np.float32)]).reshape(-1, 1, 1, 64, 64)
        with runner:
            return np.concatenate([runner(chunk)["logits"].ravel() for chunk in filled])[: len(numbers)]

    return rounded


def as_numpy_rounds(numbers: np.ndarray, precision: str) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return numbers.astype(DTYPES[precision]).astype(np.float32)


def followed(numbers: np.ndarray, precision: str) -> np.ndarray:
    """The numbers that the emulation promises to round: of bf16 neither its subnormals nor its largest."""
    if precision == "fp16":
        return numbers
    size = np.abs(numbers)
    return numbers[(size == 0) | ((size >= 2.0**-126) & (size < 2.0**100)) | ~np.isfinite(numbers)]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_every_number_of_the_type_and_everything_next_to_a_tie_rounds_as_in_numpy(precision: str) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(DTYPES[precision]).astype(np.float32)
    ordered = np.unique(every[np.isfinite(every)]).astype(np.float64)
    ties = ((ordered[1:] + ordered[:-1]) / 2).astype(np.float32)
    beside = [np.nextafter(ties, np.float32(side)) for side in (np.inf, -np.inf)]
    borders = np.float32([65503.9, 65504, 65519.99, 65520, 65536, 1e6, 3e38, -65519.99, -65520, -3e38])
    numbers = followed(np.concatenate([every, ties, *beside, borders]), precision)
    np.testing.assert_array_equal(rounding(precision)(numbers), as_numpy_rounds(numbers, precision))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@settings(max_examples=50)
@given(numbers=arrays.arrays(np.float32, st.integers(1, 300), elements=FINITE))
def test_any_number_rounds_as_in_numpy(precision: str, numbers: np.ndarray) -> None:
    numbers = followed(numbers, precision)
    np.testing.assert_array_equal(rounding(precision)(numbers), as_numpy_rounds(numbers, precision))


def test_each_operator_computes_in_fp32_from_rounded_numbers_and_is_rounded() -> None:
    model = two_layers()
    image = np.random.default_rng(1).standard_normal((1, 3, 4, 4)).astype(np.float32)
    w0, w1 = (model.graph.initializers[name].const_value.numpy() for name in ("w0", "w1"))
    lower(model, "fp16", ["norm"])

    def half(numbers: np.ndarray) -> np.ndarray:
        return as_numpy_rounds(numbers, "fp16")

    hidden = half(half(image.reshape(1, 48)) @ half(w0))
    normed = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
    wanted = half(half(normed) @ half(w1))
    got = run(emulated(model), image)["logits"]
    np.testing.assert_allclose(got, wanted, rtol=2.0**-11)  # the order of a sum may move a number across a tie
    np.testing.assert_array_equal(got, half(got))


def test_what_leaves_the_range_becomes_infinite() -> None:
    body = "flat = Flatten(image)  big = Mul(flat, s)  small = Div(big, s)  logits = MatMul(small, w)"
    model = graph_of(body, {"s": np.array(1000, np.float32), "w": np.ones((48, 4), np.float32)})
    image = np.full((1, 3, 4, 4), 100, np.float32)
    assert np.isfinite(run(model, image)["logits"]).all()
    lower(model, "fp16")
    assert np.isinf(run(emulated(model), image)["logits"]).all()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_values_keep_their_names_and_no_half_is_left(tiny_graph: Callable[[str], Graph], precision: Half) -> None:
    model = ir.from_proto(onnx.load_from_string(tiny_graph("topk").onnx))
    names = {value.name for node in model.graph for value in node.outputs}
    lower(model, precision, [island.node for island in islands(model, {}, precision)])
    before = ir.to_proto(model).SerializeToString()
    copy = emulated(model)
    assert ir.to_proto(model).SerializeToString() == before
    assert names <= {value.name for node in copy.graph for value in node.outputs}
    onnx.checker.check_model(ir.to_proto(copy), full_check=True)
    inferred = onnx.shape_inference.infer_shapes(ir.to_proto(copy), strict_mode=True)
    kinds = {value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    kinds |= {weight.data_type for weight in inferred.graph.initializer}
    assert not kinds & set(CODES.values())


def test_quantized_parts_stay_quantized() -> None:
    body = """
        flat = Flatten(image)
        q = QuantizeLinear(flat, s, zero)
        x = DequantizeLinear(q, s, zero)
        logits = MatMul(x, w)
    """
    weights = {"s": np.array(0.1, np.float32), "zero": np.array(0, np.int8), "w": np.eye(48, 4, dtype=np.float32)}
    model = graph_of(body, weights)
    lower(model, "fp16")
    copy = emulated(model)
    assert [node.op_type for node in copy.graph if "Quantize" in node.op_type or "Dequantize" in node.op_type] == [
        "QuantizeLinear", "DequantizeLinear",
    ]  # fmt: skip
    image = np.full((1, 3, 4, 4), 1.23, np.float32)
    steps = as_numpy_rounds(np.float32([0.1]), "fp16")
    np.testing.assert_array_equal(run(copy, image)["logits"], as_numpy_rounds(np.full((1, 4), 12 * steps), "fp16"))


def test_onnxruntime_cannot_judge_halves_itself() -> None:
    """Why there is an emulation: its CPU provider computes a half graph in fp32 from end to end."""
    body = "flat = Flatten(image)  a = Mul(flat, s)  b = Mul(a, s)  c = Div(b, s)  d = Div(c, s)  logits = MatMul(d, w)"
    model = graph_of(body, {"s": np.array(300, np.float32), "w": np.eye(48, 4, dtype=np.float32)})
    lower(model, "fp16")
    image = np.ones((1, 3, 4, 4), np.float32)
    with OrtRunner(ir.to_proto(model).SerializeToString()) as runner:
        native = runner(image)["logits"]
    np.testing.assert_array_equal(native, np.ones((1, 4)))
    assert not np.isfinite(run(emulated(model), image)["logits"]).any()
