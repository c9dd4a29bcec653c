"""The runner of engines over both simulations."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from cuda_device import install_cuda_bindings, install_pycuda
from tensorrt_module import SimulatedLibrary

from edgevit.runtimes.cuda_memory import CudaMemory
from edgevit.runtimes.device_memory import DeviceMemory
from edgevit.runtimes.pycuda_memory import PycudaMemory
from edgevit.runtimes.trt import TrtRunner

ENGINE = b"the bytes of an engine"


def simulated_runner(library: SimulatedLibrary, binding: str = "cuda-bindings", **settings: Any) -> TrtRunner:
    """A runner that imports the simulation in place of the library, and opens the simulated device."""

    def open_memory() -> DeviceMemory:
        with pytest.MonkeyPatch.context() as patch:
            if binding == "pycuda":
                install_pycuda(patch, library.device)
                return PycudaMemory()
            install_cuda_bindings(patch, library.device)
            return CudaMemory()

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, library.name, library.module())
        engine = settings.pop("engine", lambda: ENGINE)
        return TrtRunner(engine, library.name, open_memory=open_memory, **settings)  # type: ignore[arg-type]
