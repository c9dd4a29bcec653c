"""DLPack both ways, on the host's memory, where numpy and torch speak it too."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.runtimes import device_arrays
from edgevit.runtimes.device_arrays import DeviceArray, borrowed, place_of

CPU = (1, 0)
DTYPES = ("float32", "float16", "int32", "int64", "uint8", "int8", "bool")


class Host:
    """A tensor that takes a stream as one on a device does, and leaves it aside."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()

    def __dlpack__(self, *, stream: object = None) -> Any:
        return self.tensor.__dlpack__()


def shared(values: np.ndarray) -> DeviceArray:
    return DeviceArray(values.ctypes.data, values.shape, str(values.dtype), CPU)


@given(shape=st.lists(st.integers(0, 4), max_size=4).map(tuple), dtype=st.sampled_from(DTYPES))
def test_what_is_shared_is_read_as_it_is_and_in_place(shape, dtype):
    values = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(dtype)
    taken = np.from_dlpack(shared(values))
    assert taken.dtype == values.dtype
    np.testing.assert_array_equal(taken, values)
    assert not values.size or taken.ctypes.data == values.ctypes.data


@given(shape=st.lists(st.integers(0, 4), max_size=4).map(tuple), dtype=st.sampled_from(DTYPES))
def test_what_is_borrowed_is_described_as_it_is(shape, dtype):
    values = np.zeros(shape, dtype)
    with borrowed(Host(values), 0) as tensor:
        assert (tensor.shape, tensor.dtype, tensor.device) == (shape, dtype, CPU)
        assert not values.size or tensor.address == values.ctypes.data


def test_torch_takes_and_gives_the_same_memory():
    torch = pytest.importorskip("torch", reason="the other library")
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    taken = torch.from_dlpack(shared(values))
    assert taken.data_ptr() == values.ctypes.data and taken.shape == (2, 3)
    part = torch.arange(12.0).reshape(4, 3)[1:3]
    with borrowed(Host(part), 0) as tensor:
        assert tensor.address == part.data_ptr() and tensor.shape == (2, 3)


@pytest.mark.parametrize("consumer", ["numpy", "torch"])
def test_nothing_is_kept_of_what_consumers_have_let_go(consumer):
    library = pytest.importorskip(consumer, reason="the consumer")
    before = len(device_arrays._lent)
    taken = library.from_dlpack(shared(np.zeros(3, np.float32)))
    assert len(device_arrays._lent) == before + 1
    del taken
    gc.collect()
    assert len(device_arrays._lent) == before


def test_nothing_is_kept_of_a_capsule_that_nobody_took():
    before = len(device_arrays._lent)
    capsule = shared(np.zeros(3, np.float32)).__dlpack__(stream=7)
    assert len(device_arrays._lent) == before + 1
    del capsule
    assert len(device_arrays._lent) == before


def test_what_was_borrowed_goes_back_to_its_owner():
    before = len(device_arrays._lent)
    with borrowed(shared(np.zeros(3, np.float32)), 0):
        assert len(device_arrays._lent) == before + 1
    assert len(device_arrays._lent) == before


def test_what_has_holes_is_refused():
    with pytest.raises(InputError, match="not C-contiguous"), borrowed(Host(np.zeros((4, 4))[:, :2]), 0):
        pass


def test_a_type_that_numpy_has_not_is_refused():
    torch = pytest.importorskip("torch", reason="it has bfloat16")
    wanted = "DLPack's type 4 of 16 bits; wanted float32"
    with pytest.raises(InputError, match=wanted), borrowed(Host(torch.zeros(3, dtype=torch.bfloat16)), 0):
        pass


def test_what_its_owner_does_not_share_is_refused():
    torch = pytest.importorskip("torch", reason="it records gradients")
    with pytest.raises(InputError, match="cannot be shared"), borrowed(Host(torch.zeros(3, requires_grad=True)), 0):
        pass


def test_the_place_is_that_of_the_tensor():
    assert place_of(np.zeros(1)) == CPU
    assert place_of(DeviceArray(0, (1,), "float32")) == (device_arrays.CUDA, 0)
    assert place_of(3.0) is None
