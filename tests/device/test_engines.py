"""Engines on a device: CUDA graphs, tensors that are there already, times, and that bundles answer as their source."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from real_engine import engine_on_this_device

from edgevit.errors import InputError
from edgevit.runtimes.trt import TrtRunner

SHAPE = (1, 3, 32, 32)
IMAGES = np.random.default_rng(1).random((4, *SHAPE), dtype=np.float32)
WEIGHT = np.random.default_rng(2).normal(size=(3 * 32 * 32, 10)).astype(np.float32) / 55


def graph() -> bytes:
    """Logits are a product with the image, and `largest` is the largest value of each colour: a float and an int."""
    pytest.importorskip("onnx", reason="the graph is built with onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        helper.make_node("ReduceMax", ["image", "plane"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["brightest", "hundred"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["largest"], to=TensorProto.INT32),
    ]
    constants = {"weight": WEIGHT, "plane": np.array([2, 3]), "hundred": np.float32(100)}
    made = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, SHAPE)],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 10)),
            helper.make_tensor_value_info("largest", TensorProto.INT32, (1, 3)),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def assert_right(answer: dict[str, np.ndarray], image: np.ndarray) -> None:
    np.testing.assert_allclose(answer["logits"], image.reshape(1, -1) @ WEIGHT, rtol=1e-4, atol=1e-5)  # TF32 is off
    np.testing.assert_array_equal(answer["largest"], (image.max(axis=(2, 3)) * np.float32(100)).astype(np.int32))


def on_device(owner: str, image: np.ndarray) -> Any:
    other = importlib.import_module(owner)
    return other.asarray(image, device="cuda") if owner == "torch" else other.asarray(image)


@pytest.fixture
def engine(library) -> bytes:
    return engine_on_this_device(library, graph())


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_an_engine_answers_the_same_with_and_without_a_cuda_graph(library, engine, cuda_graphs):
    with TrtRunner(lambda: engine, library, cuda_graphs=cuda_graphs) as runner:
        print(dict(runner.facts))
        for image in IMAGES:
            assert_right(runner(image), image)
        if not cuda_graphs:
            assert runner.facts["cuda_graph"] == "no (turned off)"


def test_a_static_engine_is_captured_through_cuda_bindings(library, engine):
    with TrtRunner(lambda: engine, library) as runner:
        if not str(runner.facts["memory"]).startswith("cuda-bindings"):
            pytest.skip(f"{runner.facts['memory']} cannot capture")
        assert runner.facts["cuda_graph"] == "yes"


def test_the_device_tells_how_long_it_took(library, engine):
    with TrtRunner(lambda: engine, library) as runner:
        runner.take_device_times()
        for image in IMAGES:
            runner(image)
        times = runner.take_device_times()
    assert times.compute_ns > 0 and times.transfer_ns > 0


def test_an_engine_with_a_changed_byte_in_its_head_is_refused_in_one_line(library, engine):
    broken = bytes(32) + engine[32:]
    with pytest.raises(InputError) as refusal, TrtRunner(lambda: broken, library, again="build it again"):
        pass
    line = str(refusal.value)
    assert line.endswith("build it again") and len(line.splitlines()) == 1


@pytest.mark.parametrize("owner", ["torch", "cupy"])
def test_a_tensor_on_the_device_is_read_there_and_answers_may_stay(library, engine, owner):
    other = pytest.importorskip(owner, reason="the owner of the tensor")
    if owner == "torch" and not other.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    with TrtRunner(lambda: engine, library) as runner:
        for _ in range(3):  # enqueued, captured, replayed
            for image in IMAGES:
                tensor = on_device(owner, image)
                assert_right(runner(tensor), image)
                outputs = runner.run_on_device(tensor)
                logits = other.from_dlpack(outputs["logits"])
                host = logits.cpu().numpy() if owner == "torch" else other.asnumpy(logits)
                np.testing.assert_allclose(host, image.reshape(1, -1) @ WEIGHT, rtol=1e-4, atol=1e-5)


def test_bundles_answer_on_their_engines_as_their_source_does(library, bundles, compute_capability):
    from edgevit.agreement import agree
    from edgevit.building import build_engines
    from edgevit.parity import Golden, compare
    from edgevit.runtimes.choose import open_runner

    targets = {"8.7": "jetson-orin", "11.0": "jetson-thor"}
    target = "rtx" if library == "tensorrt_rtx" else targets.get(compute_capability, "desktop-gpu")
    for bundle in bundles:
        records = build_engines(bundle, target=target)
        manifest = bundle.manifest
        golden = Golden.from_arrays(bundle.golden())
        tokens = manifest.reduction.tokens[-1] if manifest.reduction is not None else None
        with open_runner(bundle, "trt-rtx" if library == "tensorrt_rtx" else "trt") as runner:
            if manifest.precision_achieved == "fp32":
                parity = compare(golden, runner, 1e-4, 1e-4, tokens=tokens)
            else:
                parity = agree(golden, runner, manifest.precision_achieved, tokens=tokens)
            print(manifest.name, dict(runner.facts), [record.build_seconds for record in records.values()], parity)
        assert parity.passed, parity.faults


def test_the_library_loads_without_a_message_of_its_own(library, capfd):
    importlib.import_module(library)
    assert capfd.readouterr().out == ""
