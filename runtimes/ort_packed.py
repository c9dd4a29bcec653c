"""A graph without its weights, and a file of them beside it as ONNX Runtime multiplies by them, to be mapped.

ONNX Runtime packs the weights of products when a graph is loaded, a copy for each product, and can save what it packed
behind the weights of an external data file; loaded from such a file, products use the mapped pages. Its own file is not
used as it is: version 1.31 puts packed weights at multiples of 32 bytes, its kernels for AVX-512 read them at multiples
of 64, and the process dies; and the graph it saves beside it, where branches were optimized, cannot be loaded again.

Does not know: ONNX Runtime, where the file is kept, whether it may be trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from edgevit.errors import InputError

from ._protobuf import Part, fields, number_field, sized_field

__all__ = ["Packed", "packed_in", "without_weights"]

# Numbers of the fields in onnx.proto.
_GRAPH_OF_MODEL, _INITIALIZER_OF_GRAPH = 7, 5
_NAME, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 8, 9, 13, 14
_EXTERNAL = 1
_KEY, _VALUE = 1, 2

_SMALLEST_BYTES = 1024  # below it a tensor stays in the graph: shapes, thresholds, biases of a few channels
_PAGE_BYTES = 4096  # more than any kernel's alignment, and what a mapping may begin at

Packed = dict[str, list[tuple[str, list[bytes]]]]
"""By the name of the weight: for each way in which it was packed its key, and its buffers."""


@dataclass
class _File:
    """A file in the making, each part at the beginning of a page."""

    parts: list[Part] = field(default_factory=list)
    size: int = 0

    def put(self, data: Part) -> int:
        """Add a part; where it begins."""
        begin = self.size
        filled = -len(data) % _PAGE_BYTES
        self.parts += [data, bytes(filled)]
        self.size += len(data) + filled
        return begin


def packed_in(graph: bytes, weights: bytes) -> Packed:
    """What ONNX Runtime packed, out of the graph and the external data it saved.

    Raises:
        InputError: the entries have not the form that is known.
    """
    packed: Packed = {}
    for tensor in _initializers(memoryview(graph)):
        found = []
        for number, _, content in fields(tensor):
            if number == _EXTERNAL_DATA:
                entry = {number: bytes(value).decode() for number, _, value in fields(content)}
                if entry.get(_KEY, "").startswith("prepacked"):
                    found.append(_buffers(entry.get(_VALUE, ""), weights))
        if found:
            packed[_name_of(tensor)] = found
    return packed


def _buffers(entry: str, weights: bytes) -> tuple[str, list[bytes]]:
    """`KEY|OFFSET;SIZE;0|...` to the key and the buffers."""
    key, *places = entry.split("|")
    buffers = []
    for place in places:
        numbers = place.split(";")
        if len(numbers) != 3 or not all(map(str.isdecimal, numbers)):
            raise InputError(f"packed weights are stored as {place[:40]!r}, which this edgevit cannot read")
        offset, size = int(numbers[0]), int(numbers[1])
        if not 0 < size <= len(weights) - offset:
            raise InputError("packed weights are stored outside of their file")
        buffers.append(weights[offset : offset + size])
    if not buffers:
        raise InputError(f"packed weights are stored as {entry[:40]!r}, which this edgevit cannot read")
    return key, buffers


def without_weights(model: bytes, packed: Packed, file_name: str) -> tuple[bytes, bytes]:
    """The graph with its large weights in a file of their own, and the content of that file.

    Args:
        model: the serialized graph, its weights in it.
        packed: by the name of a weight, as `packed_in` gives it; names that the graph lacks are left out.
        file_name: of the file, which stands in the folder that ONNX Runtime is told.
    """
    file = _File()

    def changed_graph(graph: memoryview) -> Iterator[Part]:
        for number, whole, content in fields(graph):
            changed = _outside(content, packed, file_name, file) if number == _INITIALIZER_OF_GRAPH else None
            yield whole if changed is None else sized_field(_INITIALIZER_OF_GRAPH, [changed])

    parts = [
        sized_field(number, list(changed_graph(content))) if number == _GRAPH_OF_MODEL else whole
        for number, whole, content in fields(memoryview(model))
    ]
    return b"".join(parts), b"".join(file.parts)


def _outside(tensor: memoryview, packed: Packed, file_name: str, file: _File) -> bytes | None:
    """The tensor with its numbers, and what was packed of them, put into the file; None for a small one."""
    kept: list[Part] = []
    data: memoryview | None = None
    for number, whole, content in fields(tensor):
        if number == _RAW_DATA:
            data = content
        elif number != _DATA_LOCATION:
            kept.append(whole)
    if data is None or len(data) < _SMALLEST_BYTES:
        return None
    entries = {"location": file_name, "offset": str(file.put(data)), "length": str(len(data))}
    for place, (key, buffers) in enumerate(packed.get(_name_of(tensor), ())):
        entries[f"prepacked_{place}"] = "|".join([key, *(f"{file.put(buffer)};{len(buffer)};0" for buffer in buffers)])
    pairs = (
        sized_field(_EXTERNAL_DATA, [sized_field(_KEY, [key.encode()]), sized_field(_VALUE, [value.encode()])])
        for key, value in entries.items()
    )
    return b"".join([*kept, *pairs, number_field(_DATA_LOCATION, _EXTERNAL)])


def _initializers(model: memoryview) -> Iterator[memoryview]:
    for number, _, graph in fields(model):
        if number == _GRAPH_OF_MODEL:
            yield from (content for number, _, content in fields(graph) if number == _INITIALIZER_OF_GRAPH)


def _name_of(tensor: memoryview) -> str:
    names = (bytes(content).decode(errors="replace") for number, _, content in fields(tensor) if number == _NAME)
    return next(names, "")
