"""The usual ways to run a model, as factories for the harness: what edgevit's graphs are held against.

Each gives a runner of the same model with the same random weights, at one picture.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np

from edgevit.models.opening import open_model
from edgevit.runtimes.ort import OrtRunner
from edgevit.runtimes.torch_ref import TorchRunner
from edgevit.spec import TensorSpec


def _module_and_image(model: str, schedule: str | None):
    source = open_model(model, schedule=schedule)
    size = source.preprocess.height
    return source.module, TensorSpec("image", "float32", (1, 3, size, size))


def torch_eager(model: str, schedule: str | None = None) -> TorchRunner:
    """The module as it is."""
    module, image = _module_and_image(model, schedule)
    return TorchRunner(module, image, ("logits",))


def torch_compiled(model: str, schedule: str | None = None) -> TorchRunner:
    """`torch.compile` of it."""
    import torch

    module, image = _module_and_image(model, schedule)
    return TorchRunner(torch.compile(module), image, ("logits",))


def naive_onnx(model: str, schedule: str | None = None) -> OrtRunner:
    """`torch.onnx.export` as its manual shows it, run by ONNX Runtime."""
    import torch

    module, image = _module_and_image(model, schedule)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        program = torch.onnx.export(module, (torch.zeros(image.shape),), dynamo=True)
    graph = program.model.graph
    graph.inputs[0].name, graph.outputs[0].name = "image", "logits"
    return OrtRunner(program.model_proto.SerializeToString())


class OpenVinoRunner:
    """An ONNX file on OpenVINO's CPU device, for one comparison: logits alone."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def __enter__(self) -> OpenVinoRunner:
        import openvino

        compiled = openvino.Core().compile_model(
            self._path, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        )
        self._request = compiled.create_infer_request()
        self._version = openvino.__version__
        self.input = TensorSpec("image", "float32", tuple(compiled.input("image").shape))
        self.outputs = (TensorSpec("logits", "float32", tuple(compiled.output("logits").shape)),)
        return self

    def __exit__(self, *exception: object) -> None:
        del self._request

    @property
    def facts(self) -> dict[str, str | int]:
        return {"runtime": "openvino", "version": self._version, "device": "cpu"}

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        self._request.infer({"image": image}, share_inputs=True)
        return {"logits": np.array(self._request.get_tensor("logits").data)}


def openvino(path: str) -> OpenVinoRunner:
    """The same ONNX file on OpenVINO."""
    return OpenVinoRunner(path)
