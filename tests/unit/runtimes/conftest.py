from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest

from edgevit.bundle import Bundle
from edgevit.bundle_writer import write_bundle
from edgevit.manifest import Manifest, ModelRecord
from edgevit.preprocess import Preprocess
from edgevit.spec import ReductionSpec, RoutingSpec, TensorSpec

sys.path.insert(0, str(Path(__file__).parents[2] / "simulated"))

LABELS = ("dark", "middle", "bright")
STEPS, GRID = 3, (2, 3)
ASSIGNMENT = (2, 0, 1, 1, 3, -1)  # of the six patches to four tokens, where they are merged


def make_manifest(
    batch: int = 1, routed: bool = True, merged: bool = False, trace: bool = True, target: str = "cpu-x86"
) -> Manifest:
    tokens = max(ASSIGNMENT) + 1 if merged else len(ASSIGNMENT)
    outputs = [TensorSpec("logits", "float32", (batch, len(LABELS)))]
    if routed and trace:
        outputs += [TensorSpec("depth", "int32", (batch, tokens)), TensorSpec("counts", "int32", (batch, STEPS))]
    if merged and trace:
        outputs.append(TensorSpec("assignment", "int32", (batch, len(ASSIGNMENT))))
    return Manifest(
        name="steel",
        model=ModelRecord(source="steel-recursive", config={}, parameters=9, checkpoint_sha256=None),
        routing=RoutingSpec(
            mode="topk",
            router="expert_choice",
            selection="top-k",
            steps=STEPS,
            grid=GRID,
            capacities=(tokens, 3, 1),
            tokens=tokens,
        )
        if routed
        else None,
        reduction=ReductionSpec(method="tome", grid=GRID, tokens=(tokens,)) if merged else None,
        input=TensorSpec("image", "float32", (batch, 3, 8, 8)),
        outputs=tuple(outputs),
        preprocess=Preprocess(height=8, width=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        labels=LABELS,
        target=target,
        opset=20,
        precision_requested="fp32",
        precision_achieved="fp32",
        parity=None,
        cost={},
        versions={"edgevit": "0"},
    )


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Bundle]:
    """Write a bundle of three classes by brightness; `model` are the bytes of its graph."""

    def make(model: bytes = b"no graph", **settings: object) -> Bundle:
        return write_bundle(tmp_path / "bundle", make_manifest(**settings), {"model.onnx": model})

    return make


class BrightnessRunner:
    """Judges each image of the batch by its mean: logits, depth and counts differ from image to image.

    `batches` keeps what it was called with.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.input = manifest.input
        self.outputs = manifest.outputs
        self.facts = {"runtime": "brightness", "version": "1"}
        self.batches: list[np.ndarray] = []
        self.entered = 0
        self.left = 0

    def __enter__(self) -> BrightnessRunner:
        self.entered += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.left += 1

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        assert image.shape == self.input.shape and image.dtype == np.float32 and image.flags.c_contiguous
        self.batches.append(image)
        means = image.mean(axis=(1, 2, 3))
        deepest = np.clip((means * STEPS).astype(np.int32) + 1, 1, STEPS)
        tokens = {output.name: output.shape[1] for output in self.outputs}.get("depth", 6)
        depth = np.ones((len(image), tokens), np.int32)
        depth[:, 1] = deepest
        answer = {
            "logits": -8 * np.abs(means[:, None] - np.array([0.0, 0.5, 1.0])).astype(np.float32),
            "depth": depth,
            "assignment": np.tile(np.array(ASSIGNMENT, np.int32), (len(image), 1)),
            "counts": (depth[:, None, :] > np.arange(STEPS)[None, :, None]).sum(axis=2).astype(np.int32),
        }
        return {output.name: answer[output.name] for output in self.outputs}


@pytest.fixture
def brightness_runner() -> type[BrightnessRunner]:
    return BrightnessRunner


@pytest.fixture
def grey() -> Callable[[int], np.ndarray]:
    """An 8 x 8 picture of one grey value."""
    return lambda value: np.full((8, 8, 3), value, np.uint8)


@pytest.fixture
def make_model() -> Callable[..., bytes]:
    """A graph from the means of the colours to logits; the arguments make it break one rule each."""
    pytest.importorskip("onnx", reason="the graph is built with onnx")
    from onnx import TensorProto, helper, numpy_helper

    def make(
        shape: tuple[int | str, ...] = (1, 3, 8, 8),
        dtype: int = TensorProto.FLOAT,
        inputs: int = 1,
        operator: str = "ReduceMean",
        output_type: int = TensorProto.FLOAT,
    ) -> bytes:
        nodes = [
            helper.make_node(operator, ["image", "plane"], ["colour"], keepdims=0),
            helper.make_node("Cast", ["colour"], ["logits"], to=output_type),
        ]
        graph = helper.make_graph(
            nodes,
            "brightness",
            [helper.make_tensor_value_info(f"image{i or ''}", dtype, shape) for i in range(inputs)],
            [helper.make_tensor_value_info("logits", output_type, (shape[0], 3))],
            [numpy_helper.from_array(np.array([2, 3]), "plane")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        return bytes(model.SerializeToString())

    return make
