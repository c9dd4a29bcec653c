"""Which nodes of a graph stay in fp32 when the rest becomes half, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir

from edgevit.precision_record import Island

from .half import Half, float_names

__all__ = ["islands"]

# NVIDIA's AutoCast keeps a node in fp32 that has met a magnitude above this: an average of 512 leaves sums of more than
# a hundred such numbers no room in fp16, and its numbers next to 512 are a half apart.
_LARGEST = 512.0
_FP16_MAX = 65504.0
_FP16_NORMAL = 2.0**-14
# Products add up in fp32 on tensor cores, so that depth costs little; but TensorRT may choose kernels that do not.
_DEEPEST = 8192

_NORMS = {"BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization"}
_RANKING = {"ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "TopK"}
_PRODUCTS = {"Conv", "Gemm", "MatMul"}
_DELICATE = {"Exp", "Log", "Pow", "Reciprocal", "Sqrt", "CumSum"}


def islands(model: ir.Model, largest: Mapping[str, float], precision: Half) -> tuple[Island, ...]:
    """The nodes to keep, in the order of the graph.

    For both types: norms and Softmax; whatever is ranked or compared, back to the product that it comes from; sums,
    powers, logarithms and quotients; operators that this opset does not define for the type. For fp16, whose range is
    small, also whatever has met a large magnitude and products over very many terms.

    Softmax in fp32 costs two casts a block (89 casts in the recursive model's graph in place of 65), and TensorRT may
    then not fuse attention into one kernel (seen in Stability-AI/stable-audio-3 pull request 79: none fused). Rounding
    its result to fp16 changed no decision and no share of tokens of steel-recursive on 231 pictures, by emulation.

    Args:
        model: a finished fp32 graph.
        largest: the largest magnitude of each value on calibration pictures, by name (`measure_ranges`); what is not
            in it is not judged by magnitude.
        precision: of the rest.

    Raises:
        InputError: a graph with branches, or one that is not fp32.
    """
    floats = float_names(model)
    opset = model.graph.opset_imports.get("", 1)
    scores = _scores(model, floats)

    def reason(node: ir.Node) -> str | None:
        if not any(value is not None and value.name in floats for value in (*node.inputs, *node.outputs)):
            return None
        if node.op_type in _NORMS:
            return "a norm's variance leaves the range of fp16, or loses most of its digits"
        if node.op_type in ("Softmax", "LogSoftmax"):
            return "Softmax adds up exponentials of all tokens"
        if node in scores:
            return "a score that is ranked or compared: rounding it would change what is selected"
        if node.op_type in _DELICATE or node.op_type.startswith("Reduce"):
            return f"{node.op_type} loses digits, or leaves the range"
        if node.op_type == "Div" and (node.inputs[1] is None or node.inputs[1].const_value is None):
            return "a quotient of two values leaves the range where the divisor is small"
        if not _defined(node, precision, opset):
            return f"opset {opset} has no {node.op_type} in {precision}"
        return _beyond_fp16(node, largest, floats) if precision == "fp16" else None

    found = ((str(node.name), reason(node)) for node in model.graph)
    return tuple(Island(name, why) for name, why in found if why is not None)


def _beyond_fp16(node: ir.Node, largest: Mapping[str, float], floats: frozenset[str]) -> str | None:
    for value in (*node.inputs, *node.outputs):
        if value is None or value.name not in floats:
            continue
        if value.const_value is not None:
            numbers = np.abs(value.const_value.numpy())
            if (numbers[np.isfinite(numbers)] > _FP16_MAX).any():
                return f"the constant {value.name} is beyond {_FP16_MAX:g}"
            scale = node.op_type in ("QuantizeLinear", "DequantizeLinear") and value is node.inputs[1]
            if scale and (numbers < _FP16_NORMAL).any():
                return f"the scale {value.name} has too few digits in fp16"
        met = largest.get(str(value.name), 0.0)
        if not met <= _LARGEST:  # so that NaN is one too
            return f"{value.name} reaches {met:.3g}, more than {_LARGEST:g}"
    depth = _depth(node)
    return f"adds up {depth} products, more than {_DEEPEST}" if depth > _DEEPEST else None


def _depth(node: ir.Node) -> int:
    """Terms of each sum in a product with a weight; 0 for other nodes."""
    weight = node.inputs[1] if node.op_type in _PRODUCTS else None
    if weight is None or weight.const_value is None:
        return 0
    sides = [int(side) for side in weight.const_value.shape.numpy()]
    if node.op_type == "Conv":
        return math.prod(sides[1:])
    return sides[-1] if node.attributes.get_int("transB", 0) else sides[-2] if len(sides) > 1 else sides[0]


def _defined(node: ir.Node, precision: Half, opset: int) -> bool:
    """Whether every floating type that the operator may have at this opset includes this one."""
    if not onnx.defs.has(node.op_type, opset, node.domain):
        return False
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    wanted = "tensor(float16)" if precision == "fp16" else "tensor(bfloat16)"
    allowed = {constraint.type_param_str: set(constraint.allowed_type_strs) for constraint in schema.type_constraints}
    used = {parameter.type_str for parameter in (*schema.inputs, *schema.outputs)}
    return all(wanted in types for name, types in allowed.items() if name in used and "tensor(float)" in types)


def _scores(model: ir.Model, floats: frozenset[str]) -> set[ir.Node]:
    """What is ranked or compared, and what that is computed from.

    Back to and with the first product with a weight, which is the router itself. Where it is a product of two values
    instead, such as a likeness of tokens, it goes on back through what is computed for it alone.
    """
    states: dict[ir.Node, str] = {}  # open: its producers belong to it; alone: those that serve nothing else; end
    for node in reversed(list(model.graph)):
        results = [value for value in node.outputs if value.name in floats]
        users = [states.get(user) for value in results for user in value.consumers()]
        if node.op_type in _RANKING and any(value is not None and value.name in floats for value in node.inputs):
            states[node] = "open"
        elif "open" in users:
            states[node] = _state_of(node)
        elif users and all(state == "alone" for state in users) and node.op_type not in _PRODUCTS:
            states[node] = "alone"
    return set(states)


def _state_of(node: ir.Node) -> str:
    if node.op_type not in _PRODUCTS:
        return "open"
    return "end" if any(value is not None and value.is_initializer() for value in node.inputs) else "alone"
