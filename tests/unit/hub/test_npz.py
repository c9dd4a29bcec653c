from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevit.errors import InputError
from edgevit.npz import pack_arrays, unpack_arrays

plain_dtypes = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes()
    | hnp.unsigned_integer_dtypes()
    | hnp.floating_dtypes(sizes=(16, 32, 64))
)
plain_arrays = hnp.arrays(plain_dtypes, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
names = st.text("abc_.0", min_size=1, max_size=6)


@given(st.dictionaries(names, plain_arrays, max_size=3))
def test_arrays_are_read_back_as_they_were_and_numpy_agrees(arrays: dict[str, np.ndarray]) -> None:
    data = pack_arrays(arrays)
    read = unpack_arrays(data, "golden.npz")
    with np.load(io.BytesIO(data), allow_pickle=False) as by_numpy:
        assert sorted(by_numpy.files) == sorted(read) == sorted(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        assert read[name].tobytes() == array.tobytes()


def test_the_same_arrays_are_the_same_bytes_in_any_order_and_layout() -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.ones(2, bool)
    assert pack_arrays({"a": a, "b": b}) == pack_arrays({"b": b, "a": np.asfortranarray(a)})


def test_objects_are_neither_packed_nor_unpickled() -> None:
    with pytest.raises(ValueError, match="cannot be packed"):
        pack_arrays({"a": np.array([{}])})
    file = io.BytesIO()
    np.savez(file, a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="not of plain numbers"):
        unpack_arrays(file.getvalue(), "golden.npz")


def archive(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out:
        for name, data in members:
            out.writestr(name, data)
    return file.getvalue()


def member(shape: tuple[int, ...], data: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no zip",
        archive([("a.npy", member((2**40,), b"1234"))]),
        archive([("a.npy", member((2**62, 4), b""))]),
        archive([("a.npy", member((-1,), b"1234"))]),
        archive([("a.npy", member((2,), b"1234"))]),
        archive([("a.npy", member((1,), b"12345"))]),
        archive([("a.npy", b"\x93NUMPY\x09\x00")]),
        archive([("a.npy", b"")]),
        archive([("a.txt", member((1,), b"1234"))]),
        archive([(".npy", member((1,), b"1234"))]),
        archive([("a.npy", member((10**6,), b"\0" * 4 * 10**6))], zipfile.ZIP_DEFLATED),
    ],
    ids=[
        "empty",
        "text",
        "huge",
        "overflow",
        "negative",
        "short",
        "long",
        "version",
        "none",
        "name",
        "no name",
        "bomb",
    ],
)
def test_a_hostile_archive_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(InputError, match=r"^golden\.npz: not a readable \.npz") as caught:
        unpack_arrays(data, "golden.npz")
    assert "\n" not in str(caught.value)


def test_a_repeated_member_is_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = archive([("a.npy", member((1,), b"1234"))] * 2)
    with pytest.raises(InputError, match="repeated"):
        unpack_arrays(data, "golden.npz")


@given(st.data())
def test_any_mutation_is_refused_or_gives_arrays_no_larger_than_the_file(data: st.DataObject) -> None:
    packed = bytearray(pack_arrays({"image": np.arange(12, dtype=np.float32), "labels": np.zeros((2, 2), np.int32)}))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays = unpack_arrays(bytes(packed), "golden.npz")
    except InputError:
        return
    assert sum(array.nbytes for array in arrays.values()) <= len(packed)
