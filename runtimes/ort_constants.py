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

_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5


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

    def changed_graph(graph: memoryview) -> Iterator[bytes | memoryview]:
        for number, field, content in _fields(graph):
            if number == _INITIALIZER_OF_GRAPH and (name := _name_of(content)) in values:
                found.add(name)
                yield _sized(_INITIALIZER_OF_GRAPH, [_changed_tensor(name, content, values[name])])
            else:
                yield field

    parts = [
        _sized(number, list(changed_graph(content))) if number == _GRAPH_OF_MODEL else field
        for number, field, content in _fields(memoryview(model))
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
    for number, field, content in _fields(tensor):
        if number == _DIMS:  # packed or not, as the writer liked
            shape.extend(_varints(content))
        elif number == _DATA_TYPE:
            (code,) = _varints(content)
            dtype = _DTYPES.get(code, f"type {code}")
        if number not in _VALUES:
            kept.append(field)
    if (value.dtype.name, value.shape) != (dtype, tuple(shape)):
        got, wanted = f"{value.dtype.name} {list(value.shape)}", f"{dtype} {shape}"
        raise InputError(f"got {got} for the constant {name!r} of the graph, wanted {wanted}")
    little_endian = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    return b"".join([*kept, _sized(_RAW_DATA, [little_endian.tobytes()])])


def _name_of(tensor: memoryview) -> str:
    names = (bytes(content).decode(errors="replace") for number, _, content in _fields(tensor) if number == _NAME)
    return next(names, "")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Number, whole field and content (without tag and size) of each field of a serialized message.

    Raises:
        InputError: this is no such message.
    """
    at, end = 0, len(message)
    while at < end:
        begin = at
        tag, at = _varint(message, at)
        kind = tag & 7
        content = at
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _SIZED:
            size, content = _varint(message, at)
            at = content + size
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise _no_model()
        if at > end:
            raise _no_model()
        yield tag >> 3, message[begin:at], message[content:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise _no_model()


def _varints(content: memoryview) -> list[int]:
    at, values = 0, []
    while at < len(content):
        value, at = _varint(content, at)
        values.append(value)
    return values


def _sized(number: int, parts: list[bytes | memoryview]) -> bytes:
    """A field of known size: its tag, the size, the parts."""
    return b"".join([_encoded(number << 3 | _SIZED), _encoded(sum(map(len, parts))), *parts])


def _encoded(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


def _no_model() -> InputError:
    return InputError("the graph is no serialized ONNX model, so no constant of it can be set; export it again")
