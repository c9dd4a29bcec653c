"""The file format; what damage does to a whole checkpoint is in test_checkpoint.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgevit.errors import InputError
from edgevit.models.tensor_file import pack, unpack

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([True, False]), "c": torch.tensor(7)}
TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool)


def parts(data: bytes) -> tuple[dict[str, object], bytes]:
    """The header, and the bytes of the tensors."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def refused(data: bytes) -> str:
    with pytest.raises(InputError) as refusal:
        unpack(data, "a file")
    line = str(refusal.value)
    assert line.startswith("a file: ") and "\n" not in line
    return line.removeprefix("a file: ")


@given(
    shapes=st.dictionaries(st.text(min_size=1, max_size=8), st.lists(st.integers(0, 3), max_size=3), max_size=4),
    kind=st.sampled_from(TYPES),
    metadata=st.dictionaries(
        st.text(max_size=8).filter(lambda key: key != "sha256"), st.text(max_size=20), max_size=4
    ),
)  # fmt: skip
@settings(deadline=None)
def test_what_is_unpacked_is_what_was_packed(
    shapes: dict[str, list[int]], kind: torch.dtype, metadata: dict[str, str]
) -> None:
    shapes.pop("__metadata__", None)  # the format's own
    tensors = {name: torch.ones(shape).mul(3).to(kind) for name, shape in shapes.items()}
    unpacked, told = unpack(pack(tensors, metadata), "a file")
    assert told == metadata
    assert unpacked.keys() == tensors.keys()
    for name, value in tensors.items():
        assert unpacked[name].dtype == kind
        assert torch.equal(unpacked[name], value)


def test_equal_content_gives_equal_bytes_in_whatever_order() -> None:
    metadata = {str(number): "x" for number in range(20)}
    data = pack(TENSORS, metadata)
    assert pack(dict(reversed(TENSORS.items())), dict(reversed(metadata.items()))) == data
    assert pack(*unpack(data, "a file")) == data


def test_a_view_is_packed_as_the_numbers_it_shows() -> None:
    view = TENSORS["b"].t().requires_grad_()
    unpacked, _ = unpack(pack({"view": view}, {}), "a file")
    assert torch.equal(unpacked["view"], view)
    assert not unpacked["view"].requires_grad


def test_any_program_can_read_what_is_packed(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(pack(TENSORS, {"note": "röd"}))
    with safetensors.safe_open(path, "pt") as opened:
        assert opened.metadata()["note"] == "röd"
        assert set(opened.keys()) == set(TENSORS)
    loaded: dict[str, Tensor] = safetensors.torch.load_file(path)
    assert all(torch.equal(loaded[name], value) for name, value in TENSORS.items())


def test_tensors_begin_at_a_multiple_of_8_bytes() -> None:
    for length in range(16):
        assert int.from_bytes(pack(TENSORS, {"note": "n" * length})[:8], "little") % 8 == 0


def test_a_file_of_another_program_is_taken_as_it_stands() -> None:
    unpacked, metadata = unpack(safetensors.torch.save(TENSORS, {"format": "pt"}), "a file")
    assert metadata == {"format": "pt"}
    assert all(torch.equal(unpacked[name], value) for name, value in TENSORS.items())
    assert unpack(safetensors.torch.save(TENSORS), "a file")[1] == {}


@pytest.mark.parametrize("change", ["a value", "a name", "a shape", "the metadata"])
def test_content_that_the_digest_does_not_fit_is_damage(change: str) -> None:
    tensors, metadata = {"weight": torch.ones(2, 3)}, {"note": "x"}
    header, _ = parts(pack(tensors, metadata))
    digest = header["__metadata__"]
    assert isinstance(digest, dict)
    if change == "a value":
        tensors["weight"][0, 0] = 2
    elif change == "a name":
        tensors["wright"] = tensors.pop("weight")
    elif change == "a shape":
        tensors["weight"] = torch.ones(3, 2)
    else:
        metadata["note"] = "y"
    changed = safetensors.torch.save(tensors, {**metadata, "sha256": digest["sha256"]})
    assert refused(changed) == "damaged, its content is not what its SHA-256 says; get a whole copy of it"


def test_a_type_of_number_that_torch_does_not_have_is_one_line() -> None:
    header = json.dumps({"x": {"dtype": "F3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    data = len(header).to_bytes(8, "little") + header + b"\0"
    assert refused(data).startswith("truncated, damaged or no safetensors (")
