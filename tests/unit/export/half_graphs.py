"""Small graphs for the tests of lower precisions."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper, parser

from edgevit.parity import Golden
from edgevit.runtimes.ort import OrtRunner

HEADER = '<ir_version: 10, opset_import: ["" : 20]>'


def graph_of(body: str, weights: Mapping[str, np.ndarray] | None = None, ends: str = "") -> ir.Model:
    """A model from ONNX's text, `image` 1 x 3 x 4 x 4 in and `logits` 1 x 4 out unless `ends` says otherwise."""
    ends = ends or "(float[1,3,4,4] image) => (float[1,4] logits)"
    proto = parser.parse_model(f"{HEADER} edgevit {ends} {{ {body} }}")
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in (weights or {}).items())
    for index, node in enumerate(proto.graph.node):
        node.name = node.name or f"graph/{node.op_type}_{index}"
    return ir.from_proto(proto)


def two_layers(scale: float = 1.0) -> ir.Model:
    """image flattened, a linear, a LayerNorm, a linear; every weight is used once."""
    rng = np.random.default_rng(0)
    body = """
        flat = Flatten(image)
        [first] hidden = MatMul(flat, w0)
        [norm] normed = LayerNormalization <axis = -1> (hidden, g, b)
        [second] logits = MatMul(normed, w1)
    """
    weights = {
        "w0": (scale * rng.standard_normal((48, 8))).astype(np.float32),
        "g": np.ones(8, np.float32),
        "b": np.zeros(8, np.float32),
        "w1": rng.standard_normal((8, 4)).astype(np.float32),
    }
    return graph_of(body, weights)


def casts(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "Cast"]


def by_name(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)


def open_graph(onnx_bytes: bytes) -> OrtRunner:
    return OrtRunner(onnx_bytes, threads=1)


def run(model: ir.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    with open_graph(ir.to_proto(model).SerializeToString()) as runner:
        return runner(image)


def valid(model: ir.Model) -> onnx.ModelProto:
    """The proto, checked with types and shapes."""
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def routed() -> ir.Model:
    """Twelve tokens of four numbers, a block, a router that takes the best three, a block for those, a head."""
    body = """
        [blocks_0__Reshape] tokens = Reshape(image, to_tokens)
        [blocks_0__LayerNormalization] normed = LayerNormalization(tokens, g0)
        [blocks_0__MatMul] mixed = MatMul(normed, w0)
        [blocks_0__Add] x = Add(tokens, mixed)
        [routers_0__MatMul] score = MatMul(x, r)
        [routers_0__Squeeze] scores = Squeeze(score, last)
        [routers_0__TopK] best, index = TopK(scores, three)
        [routers_0__TopK_1] ascending, order = TopK <largest = 0> (index, three)
        [routers_0__Reshape] rows = Reshape(ascending, flat)
        [routers_0__ScatterElements] depth = ScatterElements <axis = 1> (ones, ascending, twos)
        [routers_0__Concat] counts = Identity(both)
        [blocks_1__Gather] taken = Gather <axis = 1> (x, rows)
        [blocks_1__MatMul] moved = MatMul(taken, w1)
        [blocks_1__Mul] square = Mul(moved, moved)
        [blocks_1__Mul_1] small = Mul(square, tiny)
        [blocks_1__Add] y = Add(taken, small)
        [head__ReduceMean] logits = ReduceMean <keepdims = 0> (y, middle)
    """
    rng = np.random.default_rng(4)
    weights = {
        "to_tokens": np.array([1, 12, 4]), "last": np.array([-1]), "three": np.array([3]), "flat": np.array([3]),
        "middle": np.array([1]), "ones": np.ones((1, 12), np.int32), "twos": np.full((1, 3), 2, np.int32),
        "both": np.array([[12, 3]], np.int32), "g0": np.ones(4, np.float32),
        "w0": (0.3 * rng.standard_normal((4, 4))).astype(np.float32),
        "w1": (0.5 * rng.standard_normal((4, 4))).astype(np.float32),
        "r": rng.standard_normal((4, 1)).astype(np.float32), "tiny": np.array(1e-3, np.float32),
    }  # fmt: skip
    ends = "(float[1,3,4,4] image) => (float[1,4] logits, int32[1,12] depth, int32[1,2] counts)"
    model = graph_of(body, weights, ends)
    for node in model.graph:
        node.name = re.sub(r"^(\w+)_(\d)__", r"\1.\2/", node.name or "").replace("__", "/")
    return model


def golden_of(model: ir.Model, images: np.ndarray) -> Golden:
    """What the graph itself answers, as the golden samples of a source model would be."""
    answers = [run(model, image[None]) for image in images]
    outputs = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
    margin = np.full((len(images), 1, 12), 0.1, np.float32)
    names = tuple(f"picture {i}" for i in range(len(images)))
    return Golden(names, images, outputs["logits"], outputs["depth"], margin)


def pictures(count: int = 4, scale: float = 1.0) -> np.ndarray:
    """count x 3 x 4 x 4 float32."""
    return (scale * np.random.default_rng(7).standard_normal((count, 3, 4, 4))).astype(np.float32)


def near_tied(model: ir.Model) -> np.ndarray:
    """An image of which the router just takes the last token and not the first, which are one to fp16.

    Rounded they are equal, and of equals the first one wins.
    """
    with open_graph(ir.to_proto(model).SerializeToString()) as runner:
        for image in pictures(500):
            tokens = image.reshape(12, 4)
            tokens[11] = tokens[0] * np.float32(1 + 2e-5)
            depth = runner(image[None])["depth"][0]
            if (depth[0], depth[11]) == (1, 2):
                return image
    raise AssertionError("no picture has its last token at the border")
