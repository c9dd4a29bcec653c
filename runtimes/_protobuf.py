"""Serialized protobuf messages, field by field: just enough to change a graph where the onnx package is not installed.

Does not know: what any message means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgevit.errors import InputError

__all__ = ["Part", "fields", "number_field", "numbers", "sized_field"]

Part = bytes | memoryview

_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5


def fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Number, whole field and content (without tag and size) of each field of a message.

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


def numbers(content: memoryview) -> list[int]:
    """The number that a field holds, or all of them where they are packed.

    Raises:
        InputError: it holds something else.
    """
    at, values = 0, []
    while at < len(content):
        value, at = _varint(content, at)
        values.append(value)
    return values


def sized_field(number: int, parts: Sequence[Part]) -> bytes:
    """A field that holds bytes, a text or another message: its tag, the size, the parts."""
    return b"".join([_encoded(number << 3 | _SIZED), _encoded(sum(map(len, parts))), *parts])


def number_field(number: int, value: int) -> bytes:
    """A field that holds a number of 0 or more."""
    return _encoded(number << 3 | _VARINT) + _encoded(value)


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


def _encoded(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


def _no_model() -> InputError:
    return InputError("the graph is no serialized ONNX model; export the bundle again")
