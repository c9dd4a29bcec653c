"""What only TensorRT 10.3 to 11 have, on a simulated module: TensorRT-RTX's parser and builder behind TensorRT's face.

The calls are those of the type stubs of TensorRT 10.13; that a device takes them was not verified here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

trt_rtx = pytest.importorskip("tensorrt_rtx", reason="simulates TensorRT on TensorRT-RTX")

from attention_graphs import attention_graph  # noqa: E402

from edgevit.errors import CheckFailed, InputError  # noqa: E402
from edgevit.export.trt import BuiltEngine, EngineSettings, build_engine, builds_ahead  # noqa: E402

HALF = {"Name": "x", "Format/Datatype": "Row major linear FP16 format"}
INSPECTED = {"Layers": [{"Name": "mha", "Inputs": [HALF], "Outputs": [HALF], "TacticName": "_gemm_mha_v2_0x1"}]}


@dataclass
class Simulated:
    """A release of TensorRT and what it was asked.

    Attributes:
        version: of the module.
        levels: of hardware compatibility that it knows.
        strong: whether networks have to be told that they are strongly typed.
        takes_cache: whether a timing cache that it is given fits.
        loads: whether it loads the engines it builds.
        asked: what its configuration was asked, in order.
    """

    version: str = "10.3.0"
    levels: tuple[str, ...] = ("NONE", "AMPERE_PLUS")
    strong: bool = True
    takes_cache: bool = True
    loads: bool = True
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def module(self) -> ModuleType:
        module: Any = ModuleType("tensorrt")
        module.__dict__.update({key: value for key, value in vars(trt_rtx).items() if not key.startswith("__")})
        module.__version__ = self.version
        module.Builder = lambda logger: Builder(self, trt_rtx.Builder(logger))
        module.Runtime = lambda logger: Runtime(self)
        module.HardwareCompatibilityLevel = SimpleNamespace(
            **{name: getattr(trt_rtx.HardwareCompatibilityLevel, name) for name in self.levels}
        )
        if not self.strong:
            module.NetworkDefinitionCreationFlag = SimpleNamespace()
        return module  # type: ignore[no-any-return]


@dataclass
class Builder:
    release: Simulated
    real: Any

    def create_network(self, flags: int) -> Any:
        self.release.asked.append(("create_network", flags))
        return self.real.create_network(flags)

    def create_builder_config(self) -> Any:
        return Config(self.release, self.real.create_builder_config())

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        return self.real.build_serialized_network(network, config.real)


class Config:
    """Notes what TensorRT-RTX lacks, and hands on the rest."""

    def __init__(self, release: Simulated, real: Any) -> None:
        self.__dict__.update(release=release, real=real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "hardware_compatibility_level":
            self.release.asked.append((name, value.name))
        else:
            setattr(self.real, name, value)

    def clear_flag(self, flag: Any) -> None:
        self.release.asked.append(("clear_flag", flag.name))
        self.real.clear_flag(flag)

    def set_flag(self, flag: Any) -> None:
        self.release.asked.append(("set_flag", flag.name))

    def create_timing_cache(self, data: bytes) -> Any:
        return None if data == b"damaged" else SimpleNamespace(serialize=lambda: data + b"timed")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        fresh = cache.serialize() == b"timed"
        self.release.asked.append(("set_timing_cache", cache.serialize(), ignore_mismatch))
        self.__dict__["cache"] = cache
        return fresh or self.release.takes_cache

    def get_timing_cache(self) -> Any:
        return self.__dict__["cache"]


@dataclass
class Runtime:
    release: Simulated

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "engine_host_code_allowed":
            self.release.asked.append((name, value))
        super().__setattr__(name, value)

    def deserialize_cuda_engine(self, engine: bytes) -> Any:
        self.release.asked.append(("deserialize_cuda_engine", len(engine)))
        text = json.dumps(INSPECTED)
        inspector = SimpleNamespace(get_engine_information=lambda form: text)
        return SimpleNamespace(create_engine_inspector=lambda: inspector) if self.release.loads else None


def built(release: Simulated, **settings: Any) -> BuiltEngine:
    return build_engine(attention_graph(), release.module(), EngineSettings(precision="fp16", **settings))


def test_tensorrt_builds_on_the_device_and_reads_its_own_engine_back() -> None:
    release = Simulated()
    engine = built(release)
    assert hasattr(release.module(), "ComputeCapability") and not builds_ahead(release.module())
    assert ("deserialize_cuda_engine", len(engine.engine)) in release.asked
    assert (engine.precision.kernels, engine.precision.attention_fused) == ({"fp16": 1.0}, 1)


def test_an_engine_that_does_not_load_where_it_was_built_is_none() -> None:
    with pytest.raises(CheckFailed, match=r"tensorrt 10\.3\.0 cannot load the engine it built"):
        built(Simulated(loads=False))


def test_networks_are_strongly_typed_where_that_has_to_be_said_and_tf32_is_off() -> None:
    release, newest = Simulated(), Simulated(version="11.4.0", strong=False)
    built(release)
    built(newest)
    assert release.asked[0] == ("create_network", 1 << int(trt_rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert newest.asked[0] == ("create_network", 0)
    assert ("clear_flag", "TF32") in release.asked and ("clear_flag", "TF32") in newest.asked


def test_a_timing_cache_is_begun_read_and_given_back() -> None:
    release = Simulated()
    assert built(release).timing_cache is None
    assert built(release, timing_cache=b"").timing_cache == b"timed"
    engine = built(release, timing_cache=b"old ")
    assert engine.timing_cache == b"old timed" and engine.notes == ()
    assert release.asked[-2][:1] == ("set_timing_cache",) and release.asked[-2][2] is False


@pytest.mark.parametrize("data", [b"of another card", b"damaged"])
def test_a_timing_cache_that_does_not_fit_is_begun_anew_and_said(data: bytes) -> None:
    engine = built(Simulated(takes_cache=False), timing_cache=data)
    assert engine.timing_cache == b"timed"
    assert engine.notes == ("the timing cache is of another device or version, or damaged: it was begun anew",)


def test_hardware_compatibility_is_asked_for_by_the_releases_own_levels() -> None:
    release = Simulated()
    built(release, hardware_compatibility="ampere+")
    assert ("hardware_compatibility_level", "AMPERE_PLUS") in release.asked
    with pytest.raises(InputError, match=r"tensorrt 10\.3\.0 has no hardware compatibility same-compute-capability"):
        built(release, hardware_compatibility="same-compute-capability")


def test_version_compatibility_is_a_flag_and_its_code_is_allowed_when_the_engine_is_read_back() -> None:
    release, plain = Simulated(), Simulated()
    built(release, version_compatible=True)
    built(plain)
    assert ("set_flag", "VERSION_COMPATIBLE") in release.asked
    assert ("engine_host_code_allowed", True) in release.asked
    assert ("engine_host_code_allowed", True) not in plain.asked


def test_compute_capabilities_belong_to_builds_ahead_of_time() -> None:
    with pytest.raises(InputError, match="builds for the device it runs on; leave the compute capability out"):
        built(Simulated(), capabilities=("8.7",))
