"""The state of stages stays on the device, which is simulated here."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cuda_device import SimulatedDevice
from simulated_runner import simulated_runner
from tensorrt_module import SimulatedLibrary

from edgevit.errors import InputError
from edgevit.probes import DeviceTimer, DeviceTimes, LayerProfiler
from edgevit.runtimes.adaptive_device import AdaptiveDeviceRunner
from edgevit.runtimes.trt import TrtRunner
from edgevit.spec import TensorSpec

IMAGE = TensorSpec("image", "float32", (1, 3, 8, 8))
STATE, ACTIVE = TensorSpec("state", "float32", (1, 192)), TensorSpec("active", "int32", (1,))
LOGITS, COUNTS = TensorSpec("logits", "float32", (1, 3)), TensorSpec("counts", "int32", (1, 2))
BUDGETS = (0, 4, 16)
BINDINGS = ("cuda-bindings", "pycuda")


def picture(active: int) -> np.ndarray:
    image = np.random.default_rng(active).random(IMAGE.shape, dtype=np.float32)
    image[0, 0, 0, 0] = active
    return image


def wanted(image: np.ndarray) -> dict[str, np.ndarray]:
    active = int(image[0, 0, 0, 0])
    ran = min(budget for budget in BUDGETS if budget >= active)
    return {"logits": image.mean(axis=(2, 3)), "counts": np.array([[active, ran]], np.int32)}


def staged(device: SimulatedDevice, binding: str = "cuda-bindings", **settings: int) -> AdaptiveDeviceRunner:
    """Stages that look at the state where it lies; those of a budget say which they are."""

    def stage(
        answer: Callable[[np.ndarray], dict[str, np.ndarray]], input: TensorSpec, *outputs: TensorSpec
    ) -> TrtRunner:
        tensors = [(True, input), *((False, output) for output in outputs)]
        return simulated_runner(SimulatedLibrary(device, tensors, answer), binding)

    def first(image: np.ndarray) -> dict[str, np.ndarray]:
        return {"state": image.reshape(STATE.shape), "active": image[:, 0, 0, 0].astype(np.int32)}

    def rest(budget: int) -> TrtRunner:
        def answer(state: np.ndarray) -> dict[str, np.ndarray]:
            image = state.reshape(IMAGE.shape)
            return {"logits": image.mean(axis=(2, 3)), "counts": np.array([[state[0, 0], budget]], np.int32)}

        return stage(answer, STATE, LOGITS, COUNTS)

    return AdaptiveDeviceRunner(stage(first, IMAGE, STATE, ACTIVE), {size: rest(size) for size in BUDGETS}, **settings)


def assert_equal(got: dict[str, np.ndarray], answer: dict[str, np.ndarray]) -> None:
    assert list(got) == list(answer)
    for name, value in answer.items():
        np.testing.assert_array_equal(got[name], value)


@pytest.mark.parametrize("binding", BINDINGS)
def test_the_answer_is_that_of_the_stages_one_after_the_other(binding):
    device = SimulatedDevice()
    with staged(device, binding) as runner:
        for active in (3, 0, 16, 4, 5, 3):
            assert_equal(runner(picture(active)), wanted(picture(active)))
    assert device.live == {}


def test_the_image_goes_to_the_device_and_two_small_things_come_back():
    device = SimulatedDevice()
    sizes: list[int] = []
    copy = device.copy
    device.copy = lambda stream, target, source, size: (sizes.append(size), copy(stream, target, source, size))[1]
    with staged(device) as runner:
        sizes.clear()
        runner(picture(7))
    # Each output has an address of its own, at a multiple of 256.
    assert sizes == [IMAGE.size_bytes, 256, 2 * 256]


def test_every_budget_is_a_cuda_graph_before_the_first_image_comes():
    device = SimulatedDevice()
    with staged(device) as runner:
        device.calls.clear()
        for active in (0, 3, 16):
            runner(picture(active))
        assert device.calls.count("launch graph") == 6
        assert not {"begin capture", "execute", "device memory"} & set(device.calls)


def test_threads_at_once_get_the_state_of_their_own_image():
    with staged(SimulatedDevice()) as runner, ThreadPoolExecutor(8) as pool:
        pictures = [picture(active) for active in (0, 3, 16, 5) * 16]
        for answer, image in zip(pool.map(runner, pictures), pictures, strict=True):
            assert_equal(answer, wanted(image))


def test_device_times_are_the_sum_of_the_stages_that_ran():
    with staged(SimulatedDevice()) as runner:
        assert isinstance(runner, DeviceTimer) and not isinstance(runner, LayerProfiler)
        assert runner.take_device_times() == DeviceTimes(0, 0), "what entering ran is no call's"
        runner(picture(7))
        # As the simulation counts: 50 us for each engine, 2 us for each copy: the image, the number, the answer.
        assert runner.take_device_times() == DeviceTimes(100_000, 6_000)
        assert runner.take_device_times() == DeviceTimes(0, 0)


def test_the_worst_case_is_the_largest_budget_whatever_the_image():
    with staged(SimulatedDevice(), least=16) as runner:
        assert runner(picture(0))["counts"].tolist() == [[0, 16]]


def test_no_memory_for_one_stage_frees_those_before_it():
    device = SimulatedDevice()
    allocate, sizes = device.allocate, []

    def refusing(size: int, kind: str) -> int:
        sizes.append(size)
        if len(sizes) == 9:
            device.refuse[kind] = "out of memory"
        return allocate(size, kind)

    device.allocate = refusing
    with pytest.raises(InputError, match="out of memory"), staged(device):
        pass
    assert len(sizes) == 9 and device.live == {}
