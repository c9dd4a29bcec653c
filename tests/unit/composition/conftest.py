from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevit.bundle_writer import write_bundle
from edgevit.cli import main
from edgevit.manifest import Manifest, ModelRecord
from edgevit.npz import pack_arrays
from edgevit.parity import Golden
from edgevit.preprocess import Preprocess
from edgevit.spec import ReductionSpec, RoutingSpec, TensorSpec

COLOURS = {"blue": (10, 10, 250), "green": (10, 250, 10), "red": (250, 10, 10)}
LABELS = ("red", "green", "blue")  # in the order of the channels, which is not that of the folders' names
DEPTH, COUNTS = (2, 1, 1, 1), (4, 1)
ASSIGNMENT = (0, 0, 1, 2)  # of the four patches to three tokens, where they are merged


@dataclass(frozen=True)
class Outcome:
    """What a command line ended with."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line of an error: nothing else on standard error, and nothing on standard output but a result."""
        lines = self.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), self.err
        return lines[0].removeprefix("error: ")


@pytest.fixture
def edgevit(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command line in this process; standard output and standard error are no terminals."""

    def run(*arguments: str | Path) -> Outcome:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


def traces(routed: bool, merged: bool) -> dict[str, tuple[int, ...]]:
    """The constant outputs of a graph, for each image."""
    given: dict[str, tuple[int, ...]] = {}
    if routed:
        given |= {"depth": DEPTH[:3], "counts": (3, 1)} if merged else {"depth": DEPTH, "counts": COUNTS}
    return given | ({"assignment": ASSIGNMENT} if merged else {})


def graph(batch: int, routed: bool, merged: bool = False) -> bytes:
    """Logits are the means of the three channels; the traces are constants."""
    pytest.importorskip("onnx", reason="the graph is built with onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("ReduceMean", ["image", "plane"], ["logits"], keepdims=0)]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (batch, 3))]
    for name, values in traces(routed, merged).items():
        constant = numpy_helper.from_array(np.tile(np.array(values, np.int32), (batch, 1)), name)
        nodes.append(helper.make_node("Constant", [], [name], value=constant))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.INT32, (batch, len(values))))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (batch, 3, 8, 8))
    plane = numpy_helper.from_array(np.array([2, 3]), "plane")
    model = helper.make_model(
        helper.make_graph(nodes, "colours", [image], outputs, [plane]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    return bytes(model.SerializeToString())


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Write a bundle that tells the brightest colour of a picture, for ONNX Runtime."""
    pytest.importorskip("onnxruntime", reason="the bundle runs on ONNX Runtime")

    def make(
        name: str = "topk",
        batch: int = 1,
        routed: bool = True,
        merged: bool = False,
        wrong: bool = False,
        **changes: Any,
    ) -> Path:
        given = traces(routed, merged)
        outputs = [TensorSpec("logits", "float32", (batch, 3))]
        routing = None
        images = np.zeros((2, 3, 8, 8), np.float32)
        images[0, 0], images[1, 2] = 1, 0.5
        golden = Golden(("one", "two"), images, images.mean(axis=(2, 3)) + (0.25 if wrong else 0))
        if routed:
            routing = RoutingSpec(
                mode="topk", router="expert_choice", selection="top-k", steps=2, grid=(2, 2),
                capacities=given["counts"], tokens=len(given["depth"]),
            )  # fmt: skip
            depth = np.tile(np.array(given["depth"], np.int32), (2, 1))
            golden = replace(golden, depth=depth, margin=np.ones((2, 1, depth.shape[1]), np.float32))
        if merged:
            golden = replace(golden, assignment=np.tile(np.array(ASSIGNMENT, np.int32), (2, 1)))
        outputs += [TensorSpec(output, "int32", (batch, len(values))) for output, values in given.items()]
        fields: dict[str, Any] = {
            "name": name,
            "model": ModelRecord(source="colours", config={}, parameters=1234567, checkpoint_sha256=None),
            "routing": routing,
            "reduction": ReductionSpec(method="tome", grid=(2, 2), tokens=(3,)) if merged else None,
            "input": TensorSpec("image", "float32", (batch, 3, 8, 8)),
            "outputs": tuple(outputs),
            "preprocess": Preprocess(height=8, width=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
            "labels": LABELS,
            "target": "cpu-x86",
            "opset": 20,
            "precision_requested": "fp32",
            "precision_achieved": "fp32",
            "parity": None,
            "cost": {"flops": 2_500_000_000},
            "versions": {"edgevit": "0.1.0"},
        }
        files = {"model.onnx": graph(batch, routed, merged), "golden.npz": pack_arrays(golden.to_arrays())}
        return write_bundle(tmp_path / name, Manifest(**(fields | changes)), files).path

    return make


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device: importing torch fails, and so does what imports it."""
    for name in [name for name in sys.modules if name.startswith(("edgevit.models.", "edgevit.training."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.fixture
def bundle(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder per colour, two pictures in each; one of `red` is blue."""
    for label, colour in COLOURS.items():
        folder = tmp_path / "pictures" / label
        folder.mkdir(parents=True)
        for number in (1, 2):
            wrong = label == "red" and number == 2
            Image.new("RGB", (20, 10), COLOURS["blue"] if wrong else colour).save(folder / f"{number}.png")
    return tmp_path / "pictures"
