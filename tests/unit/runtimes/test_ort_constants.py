from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgevit.errors import InputError
from edgevit.runtimes.ort import OrtRunner
from edgevit.runtimes.ort_constants import with_constants

onnx = pytest.importorskip("onnx", reason="the graphs are built with onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

DTYPES = ("float32", "uint8", "int8", "int32", "int64", "bool", "float16", "float64")


def model_of(tensors: list[TensorProto], nodes=(), outputs=()) -> bytes:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [4])
    graph = helper.make_graph(list(nodes), "graph", [image], list(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def comparing(stored: TensorProto) -> bytes:
    """`sum` adds what can be folded of the constant, `passes` compares with the constant as it is."""
    nodes = [
        helper.make_node("Neg", ["limit"], ["negative"]),
        helper.make_node("Neg", ["negative"], ["again"]),
        helper.make_node("Add", ["image", "again"], ["sum"]),
        helper.make_node("Greater", ["image", "limit"], ["passed"]),
        helper.make_node("Cast", ["passed"], ["passes"], to=TensorProto.INT32),
    ]
    outputs = [
        helper.make_tensor_value_info("sum", TensorProto.FLOAT, [4]),
        helper.make_tensor_value_info("passes", TensorProto.INT32, [4]),
    ]
    return model_of([stored, numpy_helper.from_array(np.zeros(3, np.int64), "other")], nodes, outputs)


@pytest.mark.parametrize(
    "stored",
    [
        numpy_helper.from_array(np.float32(1), "limit"),
        helper.make_tensor("limit", TensorProto.FLOAT, [], [1.0]),
    ],
    ids=["as bytes", "as numbers"],
)
def test_a_runner_computes_with_the_given_value_also_where_the_stored_one_could_be_folded(stored):
    pytest.importorskip("onnxruntime", reason="the runner needs onnxruntime")
    image = np.arange(4, dtype=np.float32)
    with OrtRunner(comparing(stored)) as runner:
        assert runner(image)["sum"].tolist() == [1, 2, 3, 4]
    with OrtRunner(comparing(stored), initializers={"limit": np.array(2, np.float32)}) as runner:
        for _ in range(2):
            assert runner(image)["sum"].tolist() == [2, 3, 4, 5]
            assert runner(image)["passes"].tolist() == [0, 0, 0, 1]
        assert len(runner.profile([image])) > 0


def test_a_runner_refuses_a_constant_that_the_graph_lacks_when_it_is_entered():
    pytest.importorskip("onnxruntime", reason="the runner needs onnxruntime")
    runner = OrtRunner(comparing(numpy_helper.from_array(np.float32(1), "limit")), initializers={"limits": np.zeros(1)})
    with pytest.raises(InputError, match="has no constant 'limits'"), runner:
        pass


@given(st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0))))
def test_the_value_is_there_and_all_else_is_as_it_was(value):
    before = [numpy_helper.from_array(np.zeros_like(value), name) for name in ("first", "set", "last")]
    before[1].doc_string = "kept"
    model = onnx.load_from_string(with_constants(model_of(before), {"set": value}))
    after = list(model.graph.initializer)
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1].doc_string == "kept"
    np.testing.assert_array_equal(numpy_helper.to_array(after[1]), value)
    after[1].CopyFrom(before[1])
    assert model.SerializeToString() == model_of(before)


def test_numbers_that_stood_in_another_file_are_left_behind():
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "set")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere")
    model = onnx.load_from_string(with_constants(model_of([tensor]), {"set": np.ones(2, np.float32)}))
    np.testing.assert_array_equal(numpy_helper.to_array(model.graph.initializer[0]), np.ones(2, np.float32))


def test_without_values_the_bytes_are_not_even_looked_at():
    assert with_constants(b"anything", {}) == b"anything"


@pytest.mark.parametrize(
    "value, line",
    [
        (np.zeros(3, np.float64), r"got float64 \[3\] for the constant 'set' of the graph, wanted float32 \[3\]"),
        (np.zeros((3, 1), np.float32), r"got float32 \[3, 1\] for .*, wanted float32 \[3\]"),
        (np.zeros((), np.float32), r"got float32 \[\] for .*, wanted float32 \[3\]"),
    ],
)
def test_a_value_of_another_type_or_shape_is_refused(value, line):
    model = model_of([numpy_helper.from_array(np.zeros(3, np.float32), "set")])
    with pytest.raises(InputError, match=line):
        with_constants(model, {"set": value})


@given(st.data())
def test_bytes_that_are_no_model_are_one_line_or_a_graph_without_that_constant(data):
    model = model_of([numpy_helper.from_array(np.zeros(3, np.float32), "set")])
    damaged = data.draw(
        st.one_of(
            st.binary(max_size=40), st.integers(0, len(model) - 1).map(lambda size: model[:size]), st.just(b"\xff" * 99)
        )
    )
    with pytest.raises(InputError):
        with_constants(damaged, {"absent": np.zeros(3, np.float32)})
