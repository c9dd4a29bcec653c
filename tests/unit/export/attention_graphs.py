"""A graph of one attention and one linear layer in each precision, for tests of what TensorRT makes of it."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

TOKENS, HEADS, WIDTH = 16, 2, 32
HEAD = WIDTH // HEADS
_TYPES = {"fp32": (TensorProto.FLOAT, np.float32), "fp16": (TensorProto.FLOAT16, np.float16)}


def attention_graph(
    precision: str = "fp16",
    *,
    softmax: str = "",
    quantized: bool = False,
    scaled_after: bool = False,
    heads: int = HEADS,
) -> bytes:
    """Float32 `image` through attention of its tokens and a shared linear layer, twice, to float32 `logits`.

    Args:
        precision: of all between input and output.
        softmax: precision of the Softmax alone, with casts around it.
        quantized: whether the linear layers have Q/DQ around their inputs.
        scaled_after: whether the scores are scaled, rather than q.
        heads: 1 leaves the axis of the heads out.
    """
    kind, dtype = _TYPES[precision]
    shape = [1, TOKENS, HEADS, HEAD] if heads > 1 else [1, TOKENS, WIDTH]
    order, swap = ([0, 2, 1, 3], [0, 1, 3, 2]) if heads > 1 else ([0, 1, 2], [0, 2, 1])
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) / 8
    constants = {
        "shape": np.array(shape),
        "flat": np.array([1, TOKENS, WIDTH]),
        "scale": np.array(0.25, dtype),
        "bias": np.zeros(WIDTH, dtype),
    }
    if quantized:
        constants |= {
            "weight": np.clip(np.rint(weight * 127), -127, 127).astype(np.int8),
            "weight_step": np.full(WIDTH, 1 / 127, dtype),
            "weight_zero": np.zeros(WIDTH, np.int8),
            "step": np.array(0.05, dtype),
            "zero": np.array(0, np.int8),
        }
    else:
        constants["weight"] = weight.astype(dtype)
    nodes = [helper.make_node("Cast", ["image"], ["x0"], to=kind)]

    def node(operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], name=f"block/{operator}_{output}", **attributes))
        return output

    def linear(x: str, name: str) -> str:
        w = "weight"
        if quantized:
            x = node(
                "DequantizeLinear",
                [node("QuantizeLinear", [x, "step", "zero"], f"{name}q"), "step", "zero"],
                f"{name}d",
            )
            w = node("DequantizeLinear", ["weight", "weight_step", "weight_zero"], f"{name}w", axis=1)
        return node("Add", [node("MatMul", [x, w], f"{name}m"), "bias"], name)

    for step in range(2):
        x = f"x{step}"
        q = node("Transpose", [node("Reshape", [linear(x, f"lin{step}"), "shape"], f"r{step}")], f"q{step}", perm=order)
        k = node("Transpose", [q], f"k{step}", perm=swap)
        scores = node("MatMul", [q if scaled_after else node("Mul", [q, "scale"], f"sq{step}"), k], f"s{step}")
        if scaled_after:
            scores = node("Mul", [scores, "scale"], f"ss{step}")
        if softmax:
            scores = node("Cast", [scores], f"up{step}", to=_TYPES[softmax][0])
        shares = node("Softmax", [scores], f"p{step}", axis=-1)
        if softmax:
            shares = node("Cast", [shares], f"down{step}", to=kind)
        mixed = node("Transpose", [node("MatMul", [shares, q], f"o{step}")], f"t{step}", perm=order)
        node("Add", [x, node("Reshape", [mixed, "flat"], f"y{step}")], f"x{step + 1}")
    nodes.append(helper.make_node("Cast", ["x2"], ["logits"], to=TensorProto.FLOAT))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, TOKENS, WIDTH]) for name in ("image", "logits")]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "attention", ends[:1], ends[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())
