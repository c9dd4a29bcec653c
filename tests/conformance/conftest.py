"""The runners under the suite, each with the same small graph: add a runner by adding a function to `RUNNERS`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.engine_record import Library
from edgevit.errors import MissingExtra
from edgevit.runner import Runner
from edgevit.spec import TensorSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "simulated"))

BATCH, SIDE, CLASSES = 2, 4, 3
IMAGE = TensorSpec("image", "float32", (BATCH, 3, SIDE, SIDE))
OUTPUTS = (
    TensorSpec("logits", "float32", (BATCH, CLASSES)),
    TensorSpec("depth", "int32", (BATCH, 4)),
    TensorSpec("counts", "int32", (BATCH, 2)),
)
STATE, ACTIVE = TensorSpec("state", "float32", (BATCH, 3 * SIDE * SIDE)), TensorSpec("active", "int32", (BATCH,))
BUDGETS = (3, 6, 9)  # the images have up to 8 active tokens
WEIGHT = np.array([[1, -2, 0.5], [0.25, 3, -1], [-0.5, 1, 2]], np.float32)
COUNTS = np.array([[4, 2]] * BATCH, np.int32)


@dataclass(frozen=True)
class Case:
    """A runner to be held to the contract, and the answer it owes."""

    make: Callable[[], Runner]
    answer: Callable[[np.ndarray], dict[str, np.ndarray]]


def computed(image: np.ndarray) -> dict[str, np.ndarray]:
    """What the graph does: the mean colour times a matrix, the largest value of each 2 x 2 patch, a constant."""
    quarters = image.reshape(BATCH, 3, 2, SIDE // 2, 2, SIDE // 2).max(axis=(1, 3, 5))
    depth = quarters.reshape(BATCH, 4).astype(np.int32)
    return {"logits": image.mean(axis=(2, 3)) @ WEIGHT, "depth": depth, "counts": COUNTS}


def zeros(image: np.ndarray) -> dict[str, np.ndarray]:
    return {output.name: np.zeros(output.shape, output.dtype) for output in OUTPUTS}


def onnx_graph(nodes: list[Any], input: TensorSpec, outputs: Sequence[TensorSpec], **constants: np.ndarray) -> bytes:
    """A graph of one input, as ONNX."""
    import onnx
    from onnx import helper, numpy_helper

    def declared(spec: TensorSpec) -> Any:
        return helper.make_tensor_value_info(
            spec.name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), spec.shape
        )

    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", [declared(input)], [declared(output) for output in outputs], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def tiny_graph(input: TensorSpec = IMAGE) -> bytes:
    """The graph as ONNX, from the image or from its numbers in one row for each image."""
    pytest.importorskip("onnx", reason="the graph is built with onnx")
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Reshape", [input.name, "shape"], ["picture"]),
        helper.make_node("ReduceMean", ["picture", "plane"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "weight"], ["logits"]),
        helper.make_node("MaxPool", ["picture"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ReduceMax", ["pooled", "channel"], ["brightest"], keepdims=0),
        helper.make_node("Flatten", ["brightest"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["depth"], to=TensorProto.INT32),
        helper.make_node("Identity", ["constant"], ["counts"]),
    ]
    constants = {"plane": np.array([2, 3]), "channel": np.array([1]), "weight": WEIGHT, "constant": COUNTS}
    return onnx_graph(nodes, input, OUTPUTS, shape=np.array(IMAGE.shape), **constants)


def first_graph() -> bytes:
    """The first stage as ONNX: the image's numbers as the state, the first of them as the active tokens."""
    pytest.importorskip("onnx", reason="the graph is built with onnx")
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Flatten", ["image"], ["state"]),
        helper.make_node("Gather", ["state", "first"], ["number"], axis=1),
        helper.make_node("Cast", ["number"], ["active"], to=TensorProto.INT32),
    ]
    return onnx_graph(nodes, IMAGE, (STATE, ACTIVE), first=np.array(0))


def first_computed(image: np.ndarray) -> dict[str, np.ndarray]:
    return {"state": image.reshape(STATE.shape), "active": image[:, 0, 0, 0].astype(np.int32)}


def ort_case() -> Case:
    from edgevit.runtimes.ort import OrtRunner

    data = tiny_graph()
    return Case(lambda: OrtRunner(data, threads=1), computed)


def openvino_case() -> Case:
    from edgevit.runtimes.ov import OpenVinoRunner

    data = tiny_graph()
    return Case(lambda: OpenVinoRunner(data, threads=1), computed)


def ort_stages_case() -> Case:
    from edgevit.runtimes.adaptive import ProfiledAdaptiveRunner
    from edgevit.runtimes.ort import OrtRunner

    first, rest = first_graph(), tiny_graph(STATE)

    def stage(data: bytes) -> OrtRunner:
        return OrtRunner(data, threads=1, takes_turns=True)

    return Case(lambda: ProfiledAdaptiveRunner(stage(first), {size: stage(rest) for size in BUDGETS}), computed)


def torch_case() -> Case:
    torch = pytest.importorskip("torch", reason="the reference is a torch module")
    from edgevit.runtimes.torch_ref import TorchRunner

    class Tiny(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("counts", torch.tensor(COUNTS))

        def forward(self, image):
            pooled = torch.nn.functional.max_pool2d(image, 2).amax(dim=1).flatten(1)
            return image.mean(dim=(2, 3)) @ torch.from_numpy(WEIGHT), pooled.to(torch.int32), self.counts

    return Case(lambda: TorchRunner(Tiny().eval(), IMAGE, [output.name for output in OUTPUTS]), computed)


def null_case() -> Case:
    from edgevit.runtimes.null_runner import NullRunner

    return Case(lambda: NullRunner(IMAGE, OUTPUTS), zeros)


def engine_case(library: Library) -> Callable[[], Case]:
    """The graph as an engine on the GPU that is here."""

    def make() -> Case:
        from real_engine import engine_on_this_device

        from edgevit.runtimes.trt import TrtRunner

        engine = engine_on_this_device(library, tiny_graph())
        return Case(lambda: TrtRunner(lambda: engine, library), computed)

    return make


def engine_stages_case(library: Library) -> Callable[[], Case]:
    """An engine for each stage on the GPU that is here."""

    def make() -> Case:
        from real_engine import engine_on_this_device

        from edgevit.runtimes.adaptive_device import AdaptiveDeviceRunner
        from edgevit.runtimes.trt import TrtRunner

        first, rest = (engine_on_this_device(library, graph) for graph in (first_graph(), tiny_graph(STATE)))

        def runner() -> AdaptiveDeviceRunner:
            return AdaptiveDeviceRunner(
                TrtRunner(lambda: first, library, output_names=(STATE.name, ACTIVE.name)),
                {size: TrtRunner(lambda: rest, library) for size in BUDGETS},
            )

        return Case(runner, computed)

    return make


def simulated_case(library: Library, binding: str) -> Callable[[], Case]:
    """The runner of engines on a device made of the host's memory: what it does itself is held to the contract."""

    def make() -> Case:
        from cuda_device import SimulatedDevice
        from simulated_runner import simulated_runner
        from tensorrt_module import SimulatedLibrary

        tensors = [(True, IMAGE), *((False, output) for output in OUTPUTS)]
        simulated = SimulatedLibrary(SimulatedDevice(), tensors, computed, name=library)
        return Case(lambda: simulated_runner(simulated, binding), computed)

    return make


def simulated_stages_case(library: Library) -> Callable[[], Case]:
    """An engine for each stage on one device, where the state stays."""

    def make() -> Case:
        from cuda_device import SimulatedDevice
        from simulated_runner import simulated_runner
        from tensorrt_module import SimulatedLibrary

        from edgevit.runtimes.adaptive_device import AdaptiveDeviceRunner
        from edgevit.runtimes.trt import TrtRunner

        device = SimulatedDevice()

        def rest_computed(state: np.ndarray) -> dict[str, np.ndarray]:
            return computed(state.reshape(IMAGE.shape))

        def stage(answer: Callable[..., dict[str, np.ndarray]], input: TensorSpec, *outputs: TensorSpec) -> TrtRunner:
            tensors = [(True, input), *((False, output) for output in outputs)]
            return simulated_runner(SimulatedLibrary(device, tensors, answer, name=library))

        def runner() -> AdaptiveDeviceRunner:
            first = stage(first_computed, IMAGE, STATE, ACTIVE)
            return AdaptiveDeviceRunner(first, {size: stage(rest_computed, STATE, *OUTPUTS) for size in BUDGETS})

        return Case(runner, computed)

    return make


RUNNERS = {
    "ort": ort_case,
    "ort, in stages": ort_stages_case,
    "ov": openvino_case,
    "torch": torch_case,
    "null": null_case,
    "trt": engine_case("tensorrt"),
    "trt-rtx": engine_case("tensorrt_rtx"),
    "trt, in stages": engine_stages_case("tensorrt"),
    "trt-rtx, in stages": engine_stages_case("tensorrt_rtx"),
    "trt, simulated": simulated_case("tensorrt", "cuda-bindings"),
    "trt, simulated, through pycuda": simulated_case("tensorrt", "pycuda"),
    "trt-rtx, simulated": simulated_case("tensorrt_rtx", "cuda-bindings"),
    "trt, simulated, in stages": simulated_stages_case("tensorrt"),
    "trt-rtx, simulated, in stages": simulated_stages_case("tensorrt_rtx"),
}


@pytest.fixture(params=RUNNERS)
def case(request: pytest.FixtureRequest) -> Case:
    case = RUNNERS[request.param]()
    try:
        case.make()
    except MissingExtra as missing:
        pytest.skip(str(missing))
    return case


@pytest.fixture
def runner(case: Case) -> Iterator[Runner]:
    with case.make() as runner:
        yield runner


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [rng.uniform(1, 9, IMAGE.shape).astype(np.float32) for _ in range(8)]
