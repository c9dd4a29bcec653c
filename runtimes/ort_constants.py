"""Other values for constants of a serialized ONNX graph, put into its bytes before anything has read them.

ONNX Runtime has an option for this, `SessionOptions.add_initializer`, which is no override: a product of the stored
value that was folded ahead of time stays, a name that the graph lacks is ignored, and a value of another type is read
as if it were of the stored one. In the bytes the value is simply another one.

Does not know: ONNX Runtime, the onnx package (which no device needs), what a constant means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edgevit.errors import InputError

from ._protobuf import Part, fields, numbers, sized_field

__all__ = ["with_constants"]

# Numbers of the fields in onnx.proto.
_GRAPH_OF_MODEL, _INITIALIZER_OF_GRAPH = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
# Every other way in which a tensor may hold its numbers, or say where they are.
_VALUES = {4, 5, 6, 7, _RAW_DATA, 10, 11, 13, 14}

_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
}


def with_constants(model: bytes, values: Mapping[str, np.ndarray]) -> bytes:
    """The same graph with other numbers in some of its initializers.

    Args:
        model: a serialized ModelProto.
        values: by the name of an initializer of the main graph; of its type and shape.

    Raises:
        InputError: the graph has no such initializer, or one of another type or shape; the bytes are no ONNX model.
    """
    if not values:
        return model
    found: set[str] = set()

    def changed_graph(graph: memoryview) -> Iterator[Part]:
        for number, field, content in fields(graph):
            if number == _INITIALIZER_OF_GRAPH and (name := _name_of(content)) in values:
                found.add(name)
                yield sized_field(_INITIALIZER_OF_GRAPH, [_changed_tensor(name, content, values[name])])
            else:
                yield field

    parts = [
        sized_field(number, list(changed_graph(content))) if number == _GRAPH_OF_MODEL else field
        for number, field, content in fields(memoryview(model))
    ]
    missing = sorted(values.keys() - found)
    if missing:
        raise InputError(f"the graph has no constant {missing[0]!r}; give names of its initializers")
    return b"".join(parts)


def _changed_tensor(name: str, tensor: memoryview, value: np.ndarray) -> bytes:
    """A TensorProto with `value` in the place of its numbers, whatever way it held them.

    Raises:
        InputError: the value is of another type or shape.
    """
    shape: list[int] = []
    dtype, kept = "", []
    for number, field, content in fields(tensor):
        if number == _DIMS:  # packed or not, as the writer liked
            shape.extend(numbers(content))
        elif number == _DATA_TYPE:
            (code,) = numbers(content)
            dtype = _DTYPES.get(code, f"type {code}")
        if number not in _VALUES:
            kept.append(field)
    if (value.dtype.name, value.shape) != (dtype, tuple(shape)):
        got, wanted = f"{value.dtype.name} {list(value.shape)}", f"{dtype} {shape}"
        raise InputError(f"got {got} for the constant {name!r} of the graph, wanted {wanted}")
    little_endian = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    return b"".join([*kept, sized_field(_RAW_DATA, [little_endian.tobytes()])])


def _name_of(tensor: memoryview) -> str:
    names = (bytes(content).decode(errors="replace") for number, _, content in fields(tensor) if number == _NAME)
    return next(names, "")
