"""An fp32 graph that answers as a half-precision one would, for machines that compute no halves.

ONNX Runtime's CPU provider computes fp16 in fp32 and drops the casts between, and has no bf16 for most operators. Here
the result of every half operator is rounded to its type by fp32 arithmetic that leaves an optimizer nothing to remove:
with C = 2^p + 1, `c - (c - x)` for c = C x is x with its last p bits rounded away, ties to even (Veltkamp; Boldo 2006,
doi 10.1007/11814771_2). fp16's subnormals are rounded by adding and subtracting 0.75, next to which fp32's numbers are
as far apart as they are; what would round beyond the type's largest number becomes infinite.

Equal to a rounding of the exact result, not to any GPU: operators get rounded inputs, compute in fp32 as tensor cores
add up, and are rounded once at their end. Not followed: the sign of a zero, bf16 below 2^-126 or above 2^100 (which
counts as an overflow), kernels that fuse operators and round less, or that add up in fp16.
"""

from __future__ import annotations

import onnx_ir as ir

from .half import MOVES
from .shapes import with_shapes

__all__ = ["emulated"]

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
# Bits of fp32's 24 that each type lacks, and the least magnitude that counts as an overflow.
_LOST = {ir.DataType.FLOAT16: 13, ir.DataType.BFLOAT16: 16}
_OVERFLOW = {ir.DataType.FLOAT16: 65520.0, ir.DataType.BFLOAT16: 2.0**100}
_FP16_NORMAL = 2.0**-14


def emulated(model: ir.Model) -> ir.Model:
    """A graph in fp32 alone whose values are those that the half-precision graph would have; the model is not changed.

    Values keep their names, so that both graphs can be compared one by one. Weights are the halves they are stored as.
    Q/DQ stays as it is, with what comes out of it rounded.

    Args:
        model: what `lower` made, or any other graph; what it has of branches holds no halves.
    """
    typed = with_shapes(model)
    types = {str(v.name): v.dtype for node in typed.graph for v in node.outputs if v.dtype in _HALVES}
    copy = ir.from_proto(ir.to_proto(model))
    rounding = _Rounding(copy)
    for value in copy.graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype in _HALVES:
            value.const_value = ir.tensor(value.const_value.numpy().astype("float32"), name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT)
    for node in list(copy.graph):
        _state_fp32(node)
        for value in node.outputs:
            half = types.get(str(value.name))
            if half is not None and node.op_type not in MOVES:
                rounding.round(value, half)
    for value in (value for node in copy.graph for value in node.outputs if not value.is_graph_output()):
        value.type, value.shape = None, None
    return copy


def _state_fp32(node: ir.Node) -> None:
    """Where a node states a half type itself, let it state fp32; a Cast between floats becomes no operation."""
    for name in ("to", "dtype"):
        attribute = node.attributes.get(name)
        if attribute is not None and attribute.type == ir.AttributeType.INT and attribute.as_int() in _HALVES:
            node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
    value = node.attributes.get("value")
    if value is not None and value.type == ir.AttributeType.TENSOR and value.as_tensor().dtype in _HALVES:
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(value.as_tensor().numpy().astype("float32")))


class _Rounding:
    """Puts the arithmetic behind values."""

    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._constants: dict[float, ir.Value] = {}

    def round(self, value: ir.Value, half: ir.DataType) -> None:
        """Let everything that reads the value read it rounded; the rounded one takes over its name."""
        uses = list(value.uses())
        node = value.producer()
        assert node is not None, "an operator's result"
        name, value.name = str(value.name), f"{value.name}_exact"
        self._after, self._prefix = node, name
        magnitude = self._add("Abs", value)
        many = self._add("Mul", value, 2.0 ** _LOST[half] + 1)
        rounded = self._add("Sub", many, self._add("Sub", many, value))
        if half == ir.DataType.FLOAT16:
            fixed = self._add("Sub", self._add("Add", value, 0.75), 0.75)
            rounded = self._add("Where", self._add("Less", magnitude, _FP16_NORMAL), fixed, rounded)
        beyond = self._add("GreaterOrEqual", magnitude, _OVERFLOW[half])
        result = self._add("Where", beyond, self._add("Mul", value, float("inf")), rounded)
        result.name = name
        for use in uses:
            use.node.replace_input_with(use.idx, result)
        for index, output in enumerate(self._graph.outputs):
            if output is value:
                result.shape, result.type = value.shape, ir.TensorType(ir.DataType.FLOAT)
                self._graph.outputs[index] = result

    def _add(self, operator: str, *operands: ir.Value | float) -> ir.Value:
        inputs = [self._constant(operand) if isinstance(operand, float) else operand for operand in operands]
        node = ir.node(operator, inputs)
        self._graph.insert_after(self._after, node)
        self._after = node
        count = len(self._graph)
        node.name, node.outputs[0].name = f"{self._prefix}/round/{operator}_{count}", f"{self._prefix}_round_{count}"
        return node.outputs[0]

    def _constant(self, number: float) -> ir.Value:
        if number not in self._constants:
            tensor = ir.tensor([number], dtype=ir.DataType.FLOAT, name=f"edgevit_round_{len(self._constants)}")
            scalar = ir.tensor(tensor.numpy().reshape(()), name=tensor.name)
            value = ir.Value(name=tensor.name, const_value=scalar, shape=ir.Shape(()), type=ir.TensorType(scalar.dtype))
            self._graph.register_initializer(value)
            self._constants[number] = value
        return self._constants[number]
