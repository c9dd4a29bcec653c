"""int8 linears: the graph on ONNX Runtime against rounding written out in numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.export.fullest import fullest
from edgevit.export.histogram import Histogram
from edgevit.export.linears import activations_of, linears_of
from edgevit.export.name_thresholds import set_thresholds
from edgevit.export.pipeline import Graph
from edgevit.export.quantize import quantize_linears
from edgevit.export.ranges import Ranges, measure_ranges
from edgevit.export.rung_names import without_rung
from edgevit.export.write_int8 import rounded_weight
from edgevit.runtimes.ort import OrtRunner


def open_graph(graph: bytes) -> OrtRunner:
    return OrtRunner(graph, threads=1)


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, 3, 32, 32)).astype(np.float32) for _ in range(count)]


def run(model: ir.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    with open_graph(proto.SerializeToString()) as runner:
        return runner(image)


@pytest.fixture
def tiny(graph_to_quantize: Callable[[str], Graph]) -> ir.Model:
    return ir.from_proto(onnx.load_from_string(graph_to_quantize("topk").onnx))


@pytest.fixture(scope="module")
def tiny_ranges(graph_to_quantize: Callable[[str], Graph]) -> Ranges:
    return measure_ranges(ir.from_proto(onnx.load_from_string(graph_to_quantize("topk").onnx)), pictures(4), open_graph)


FORMS = ("MatMul", "bias first", "no bias", "two dimensions", "row of two dimensions", "Gemm", "Gemm transposed",
         "Gemm without bias")  # fmt: skip


def one_linear(form: str, weight: np.ndarray, bias: np.ndarray, rows: int) -> ir.Model:
    """image (1 x 1 x rows x inputs) to features by one linear, as exporters and simplifiers leave them."""
    inputs, outputs = weight.shape
    flat = form in FORMS[3:]
    stored = {
        "w": weight.T if form == "Gemm transposed" else weight,
        "b": bias[None] if form == "row of two dimensions" else bias,
        "shape": np.array([rows, inputs]),
    }
    nodes = [onnx.helper.make_node("Reshape", ["image", "shape"], ["x"], "layer/Reshape")] if flat else []
    left = "x" if flat else "image"
    if form.startswith("Gemm"):
        operands = [left, "w"] if form == "Gemm without bias" else [left, "w", "b"]
        attributes = {"transB": 1} if form == "Gemm transposed" else {}
        nodes.append(onnx.helper.make_node("Gemm", operands, ["features"], "layer/Gemm", **attributes))
    else:
        product = "features" if form == "no bias" else "product"
        nodes.append(onnx.helper.make_node("MatMul", [left, "w"], [product], "layer/MatMul"))
        if form != "no bias":
            operands = ["b", "product"] if form == "bias first" else ["product", "b"]
            nodes.append(onnx.helper.make_node("Add", operands, ["features"], "layer/Add"))
    real = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("image", real, (1, 1, rows, inputs))],
        [onnx.helper.make_tensor_value_info("features", real, (rows, outputs) if flat else (1, 1, rows, outputs))],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in stored.items()],
    )
    return ir.from_proto(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9))


def expected(image: np.ndarray, weight: np.ndarray, bias: np.ndarray, span: tuple[float, float], unsigned: bool,
             reduced: bool) -> np.ndarray:  # fmt: skip
    """A linear in 8 bits, number by number: no product of matrices, no scale taken from the code under test."""
    low, high = span
    if unsigned:
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32((high - low) / 255)
        zero, least, most = int(np.rint(np.float32(-low) / scale)), 0, 255
    else:
        scale, zero, least, most = np.float32(max(-low, high) / 127), 0, -128, 127
    levels = 64 if reduced else 127
    result = np.empty((image.shape[0], weight.shape[1]))
    for column in range(weight.shape[1]):
        step = np.float32(np.abs(weight[:, column]).max() / levels) or np.float32(1)
        small = [min(max(int(np.rint(number / step)), -levels), levels) for number in weight[:, column]]
        for row in range(image.shape[0]):
            codes = [min(max(int(np.rint(number / scale)) + zero, least), most) for number in image[row]]
            total = sum((code - zero) * factor for code, factor in zip(codes, small, strict=True))
            result[row, column] = total * float(scale) * float(step) + float(bias[column])
    return result


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activations, reduced", [("int8", False), ("int8", True), ("uint8", False), ("uint8", True)])
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 5), clip=st.sampled_from([1.0, 0.5]))
def test_a_linear_answers_as_8_bits_do(
    form: str, activations: str, reduced: bool, seed: int, rows: int, clip: float
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((24, 17)).astype(np.float32)
    weight[:, 3] = 0.0  # an output that no input reaches
    bias = rng.standard_normal(17).astype(np.float32)
    image = (rng.standard_normal((1, 1, rows, 24)) + rng.uniform(-2, 2)).astype(np.float32)
    model = one_linear(form, weight, bias, rows)
    name = "x" if form in FORMS[3:] else "image"
    low, high = float(image.min()), float(image.max())
    ranges = Ranges({name: low}, {name: high})
    largest = clip * max(abs(low), abs(high))
    quantized = quantize_linears(
        model, ranges, activations=activations, reduce_range=reduced, clip=lambda _, __: largest  # type: ignore[arg-type]
    )  # fmt: skip
    assert (quantized.linears, quantized.quantized, quantized.kept) == (1, 1, ())
    span = (max(low, -largest), min(high, largest))
    added = np.zeros_like(bias) if form in ("no bias", "Gemm without bias") else bias
    wanted = expected(image[0, 0], weight, added, span, activations == "uint8", reduced)
    got = run(model, image)["features"]
    assert got.shape == tuple(model.graph.outputs[0].shape or ())
    np.testing.assert_allclose(got.reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-4)


@given(st.integers(1, 40), st.integers(1, 40), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_weight_is_off_by_half_a_step_of_its_output_at_most(
    inputs: int, outputs: int, reduced: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = (rng.standard_normal((inputs, outputs)) * 10.0 ** rng.integers(-6, 6, outputs)).astype(np.float32)
    rounded, scales = rounded_weight(matrix, reduce_range=reduced)
    assert rounded.dtype == np.int8
    assert np.abs(rounded.astype(int)).max() <= (64 if reduced else 127)
    assert np.all(np.abs(rounded * scales.astype(float) - matrix) <= 0.5001 * scales)


def operators_on_ort(model: ir.Model, folder: Path) -> Counter[str]:
    """What ONNX Runtime makes of a graph before it runs it."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activations", ["int8", "uint8"])
def test_onnx_runtime_multiplies_every_form_in_int8(form: str, activations: str, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((32, 48)).astype(np.float32)
    model = one_linear(form, weight, np.ones(48, np.float32), 5)
    name = "x" if form in FORMS[3:] else "image"
    quantize_linears(model, Ranges({name: -1.0}, {name: 2.0}), activations=activations)  # type: ignore[arg-type]
    operators = operators_on_ort(model, tmp_path)
    assert operators["MatMulIntegerToFloat"] == 1
    assert not operators.keys() & {"MatMul", "Gemm", "DequantizeLinear"}


@pytest.mark.parametrize("mode", ["topk", "mask"])
def test_a_recursive_graph_stores_each_weight_once_and_runs_every_use_in_int8(
    graph_to_quantize: Callable[[str], Graph], tmp_path: Path, mode: str
) -> None:
    model = ir.from_proto(onnx.load_from_string(graph_to_quantize(mode).onnx))
    linears = linears_of(model)
    weights = {linear.weight.name: linear.weight.const_value for linear in linears if linear.name.startswith("blocks")}
    uses = sum(linear.name.startswith("blocks") for linear in linears)
    assert uses == 3 * len(weights) == 3 * 8, "three steps through two blocks of four linears"
    quantized = quantize_linears(model, measure_ranges(model, pictures(2), open_graph))
    assert quantized.quantized == uses
    small = [value for value in model.graph.initializers.values() if value.dtype == ir.DataType.INT8 and value.shape]
    assert len([value for value in small if len(value.shape or ()) == 2]) == len(weights)
    assert not weights.keys() & model.graph.initializers.keys(), "no float copy stays behind"
    assert operators_on_ort(model, tmp_path)["MatMulIntegerToFloat"] == uses


def test_each_step_has_scales_of_its_own_and_an_activation_is_rounded_once(tiny: ir.Model, tiny_ranges: Ranges) -> None:
    quantize_linears(tiny, tiny_ranges)
    rounding = [node for node in tiny.graph if node.op_type == "QuantizeLinear"]
    inputs = [node.inputs[0] for node in rounding]
    assert len(inputs) == len(set(inputs))
    scales = {}
    for node in rounding:
        scale = node.inputs[1]
        assert scale is not None and scale.const_value is not None
        scales[str(node.name)] = float(scale.const_value.numpy())
    steps = [scales[f"blocks.0[{step}].attention.qkv/QuantizeLinear"] for step in range(3)]
    assert len(set(steps)) == 3
    for node in rounding:
        assert node.inputs[0] is not None
        assert scales[str(node.name)] == pytest.approx(tiny_ranges.largest[str(node.inputs[0].name)] / 127)


def test_where_histograms_were_measured_a_lonely_outlier_does_not_set_the_scale() -> None:
    model = one_linear("MatMul", np.ones((16, 16), np.float32), np.ones(16, np.float32), 16)
    assert activations_of(model) == {"image"}
    ranges = Ranges({"image": -1.0}, {"image": 50.0}, {"image": Histogram()})
    ranges.histograms["image"].add(np.linspace(-1, 1, 1_000_000))
    ranges.histograms["image"].add(np.array([50.0]))
    quantize_linears(model, ranges)
    scale = model.graph.initializers["image_scale"].const_value
    assert scale is not None
    assert 0.99 / 127 < float(scale.numpy()) < 1.1 / 127


def test_two_linears_on_one_activation_share_its_rounding() -> None:
    model = one_linear("MatMul", np.ones((16, 16), np.float32), np.ones(16, np.float32), 4)
    image, product = model.graph.inputs[0], next(node for node in model.graph if node.op_type == "MatMul")
    second = ir.node("MatMul", [image, product.inputs[1]], name="layer/MatMul_1")
    second.outputs[0].name, second.outputs[0].shape = "more", ir.Shape([1, 1, 4, 16])
    second.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    model.graph.append(second)
    model.graph.outputs.append(second.outputs[0])
    assert quantize_linears(model, Ranges({"image": -1.0}, {"image": 1.0})).quantized == 2
    kinds = Counter(node.op_type for node in model.graph)
    assert (kinds["QuantizeLinear"], kinds["DequantizeLinear"]) == (1, 2), "one activation, one weight"


def test_what_answers_or_chooses_stays_float_and_says_so(tiny: ir.Model, tiny_ranges: Ranges) -> None:
    assert quantize_linears(tiny, tiny_ranges).kept == (
        "routers.0/MatMul: chooses tokens",
        "routers.1/MatMul: chooses tokens",
        "head/Gemm: gives the logits",
    )


def test_a_small_predictor_stays_float_with_its_inner_layers() -> None:
    wide, thin = np.ones((32, 32), np.float32), np.ones((32, 1), np.float32)
    model = one_linear("MatMul", wide, np.ones(32, np.float32), 4)
    features = model.graph.outputs[0]
    score = ir.Value(name="s", shape=ir.Shape([32, 1]), const_value=ir.tensor(thin, name="s"))
    count = ir.Value(name="k", shape=ir.Shape([1]), const_value=ir.tensor(np.array([2]), name="k"))
    for value in (score, count):
        value.type = ir.TensorType(ir.DataType.FLOAT if value is score else ir.DataType.INT64)
        model.graph.initializers[str(value.name)] = value
    last = ir.node("MatMul", [features, score], name="predictor/MatMul")
    best = ir.node("TopK", [last.outputs[0], count], {"axis": 2}, num_outputs=2, name="TopK")
    model.graph.extend([last, best])
    best.outputs[1].name, best.outputs[1].shape = "chosen", ir.Shape([1, 1, 2, 1])
    best.outputs[1].type = ir.TensorType(ir.DataType.INT64)
    model.graph.outputs[0] = best.outputs[1]
    assert quantize_linears(model, Ranges({"image": -1.0}, {"image": 1.0})).kept == (
        "layer/MatMul: feeds only what chooses tokens",
        "predictor/MatMul: chooses tokens",
    )


def test_a_weight_kept_float_at_one_step_is_float_at_all(tiny: ir.Model, tiny_ranges: Ranges) -> None:
    name = "blocks.0[1].mlp.0/MatMul"
    quantized = quantize_linears(tiny, tiny_ranges, keep=[name])
    assert f"{name}: was asked to" in quantized.kept
    assert f"blocks.0[2].mlp.0/MatMul: shares its weight with {name}" in quantized.kept
    assert quantized.quantized == 24 - 3


def test_an_activation_that_is_always_zero_or_overflows_stays_float(tiny: ir.Model, tiny_ranges: Ranges) -> None:
    first, second = (linear for linear in linears_of(tiny) if linear.name.startswith("blocks.0[0].mlp"))
    broken = Ranges(
        {**tiny_ranges.smallest, str(first.activation.name): 0.0, str(second.activation.name): 0.0},
        {**tiny_ranges.biggest, str(first.activation.name): 0.0, str(second.activation.name): np.inf},
    )
    kept = quantize_linears(tiny, broken).kept
    assert f"{first.name}: its input is nothing but 0 on the calibration pictures" in kept
    assert any(line.startswith(f"{second.name}: its input becomes inf") for line in kept)


def test_the_whole_graph_answers_nearly_as_in_fp32(
    graph_to_quantize: Callable[[str], Graph], tiny_ranges: Ranges
) -> None:
    proto = onnx.load_from_string(graph_to_quantize("topk").onnx)
    small, fine = ir.from_proto(proto), ir.from_proto(proto)
    quantize_linears(small, tiny_ranges)
    for image in pictures(4):
        wanted, got = run(fine, image), run(small, image)
        spread = np.ptp(wanted["logits"])
        assert 0 < np.abs(got["logits"] - wanted["logits"]).max() < 0.15 * spread
        assert np.mean(got["depth"] == wanted["depth"]) > 0.7


def test_the_same_graph_becomes_the_same_bytes(graph_to_quantize: Callable[[str], Graph], tiny_ranges: Ranges) -> None:
    made = set()
    for _ in range(2):
        model = ir.from_proto(onnx.load_from_string(graph_to_quantize("topk").onnx))
        quantize_linears(model, tiny_ranges)
        made.add(ir.to_proto(model).SerializeToString(deterministic=True))
    assert len(made) == 1


def test_opset_24_is_refused() -> None:
    model = one_linear("MatMul", np.ones((16, 16), np.float32), np.ones(16, np.float32), 1)
    model.opset_imports[""] = 24
    with pytest.raises(InputError, match="opset 23 or less, got 24"):
        quantize_linears(model, Ranges({}, {}))


def test_ranges_of_another_graph_are_refused(tiny: ir.Model) -> None:
    with pytest.raises(InputError, match="no range was measured"):
        quantize_linears(tiny, Ranges({"image": 0.0}, {"image": 1.0}))


def test_keeping_what_is_no_linear_is_refused(tiny: ir.Model, tiny_ranges: Ranges) -> None:
    with pytest.raises(InputError, match="nowhere/MatMul in float, which is no linear"):
        quantize_linears(tiny, tiny_ranges, keep=["nowhere/MatMul"])


def branches_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Every branch of every If, however deep."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield attribute.g
                yield from branches_of(attribute.g)


@pytest.fixture
def ladder(graph_to_quantize: Callable[[str], Graph]) -> ir.Model:
    """An adaptive graph in int8."""
    model = ir.from_proto(onnx.load_from_string(graph_to_quantize("adaptive").onnx))
    whole = fullest(model)
    ranges = measure_ranges(whole, pictures(4), open_graph, histograms=activations_of(whole))
    quantized = quantize_linears(model, ranges, reduce_range=True)
    assert (quantized.linears, quantized.quantized) == (27, 24), "each counted once, however many rungs it has"
    return model


def test_every_rung_multiplies_in_int8_by_weights_that_are_stored_once(ladder: ir.Model, tmp_path: Path) -> None:
    proto = ir.to_proto(ladder)
    onnx.checker.check_model(proto, full_check=True)
    matrices = [t for t in proto.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 2]
    assert len(matrices) == 8
    inner = [tensor for branch in branches_of(proto.graph) for tensor in branch.initializer]
    assert max(tensor.ByteSize() for tensor in inner) < 1024, "no weight in a branch"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rungs = 0
    for branch in branches_of(onnx.load(tmp_path / "optimized.onnx").graph):
        operators = Counter(node.op_type for node in branch.node)
        if operators["LayerNormalization"]:
            rungs += 1
            assert operators["MatMulIntegerToFloat"] == 8, branch.name
            assert not operators["DequantizeLinear"] + operators["Gemm"], branch.name
    assert rungs == 2 * 4


def test_a_linear_has_one_scale_a_step_whatever_the_rung(ladder: ir.Model) -> None:
    scales: dict[str, set[float]] = {}
    for node in ladder.graph.all_nodes():
        if node.op_type == "QuantizeLinear":
            scale = node.inputs[1]
            assert scale is not None and scale.const_value is not None
            scales.setdefault(without_rung(node.name), set()).add(float(scale.const_value.numpy()))
    assert len(scales) == 3 * 8
    assert all(len(numbers) == 1 for numbers in scales.values())
    assert len({scales[f"blocks.0[{step}].attention.qkv/QuantizeLinear"].pop() for step in range(3)}) == 3


def test_an_int8_graph_answers_the_same_in_whatever_rungs_it_runs(ladder: ir.Model) -> None:
    images, counts = pictures(3), set()
    for level in (-1e9, -1.0, 0.0, 1.0, 1e9):
        set_thresholds(ladder, [level] * 2)
        for image in images:
            wanted, got = run(fullest(ladder), image), run(ladder, image)
            counts |= set(got["counts"][0, 1:].tolist())
            np.testing.assert_array_equal(got["depth"], wanted["depth"])
            np.testing.assert_allclose(got["logits"], wanted["logits"], atol=0.01 * np.ptp(wanted["logits"]))
    assert {0, 16} < counts and any(0 < count < 16 for count in counts)
