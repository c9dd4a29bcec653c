"""The record of an engine: how it was built, what it fits, and which library runs it.

Does not know: where an engine stands, any library that builds or runs one, how a device is asked what it is.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Literal

from edgevit.bundle import Bundle
from edgevit.errors import InputError
from edgevit.manifest import FileRecord
from edgevit.spec import Precision
from edgevit.targets import TARGETS

__all__ = [
    "ENGINE_SCHEMA_VERSION",
    "EnginePrecision",
    "EngineRecord",
    "HardwareCompatibility",
    "Library",
    "NoEngine",
    "build_command",
    "engine_target",
    "extra_of",
    "library_of",
]

ENGINE_SCHEMA_VERSION = 1

Library = Literal["tensorrt", "tensorrt_rtx"]
HardwareCompatibility = Literal["none", "ampere+", "same-compute-capability"]

_LIBRARIES: dict[str, Library] = {"trt": "tensorrt", "trt-rtx": "tensorrt_rtx"}
_EXTRAS: dict[Library, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CAPABILITY = re.compile(r"\d{1,2}\.\d")


@dataclass(frozen=True, kw_only=True)
class EnginePrecision:
    """What an engine computes in: types are `fp32`, `fp16`, `bf16`, `int8`, or what else the library names.

    Attributes:
        requested: the bundle's precision.
        products: share of the weights of products and convolutions, each shared one counted once, by the type they are
            multiplied in.
        layers: share of the layers that compute, by the type of their result, in the network before it was built.
        weight_bytes: bytes of the weights, by the type they are stored in.
        attention: chains MatMul-Softmax-MatMul, by the type of their products.
        attention_fusable: how many of these have the form that the library documents as fusable.
        kernels: share of the kernels of the finished engine, by the lowest type they touch; empty where the library
            does not tell.
        attention_fused: how many of these kernels are fused attention; None where the library does not tell.
    """

    requested: Precision
    products: dict[str, float]
    layers: dict[str, float]
    weight_bytes: dict[str, int]
    attention: dict[str, int]
    attention_fusable: int
    kernels: dict[str, float]
    attention_fused: int | None


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """How an engine was built and what it fits.

    Attributes:
        schema_version: of this record.
        bundle_digest: `Bundle.digest` of the bundle it was built from.
        onnx_sha256: hash of the graph it was built from.
        target: the row of the table of targets it was built for.
        library: the module that built it, and that alone can run it.
        library_version: `10.3.0`.
        compute_capability: of the device it was built on, `8.7`; None if it was built ahead of time without one.
        built_for: compute capabilities it was built for, `8.6`; empty for the library's own choice.
        device_name: of that device; None without one.
        driver: its version; None without one.
        platform: `linux-x86_64`.
        hardware_compatibility: which other devices may run it.
        version_compatible: whether newer versions of the library may run it.
        precision: what it computes in.
        build_seconds: how long the build took.
        engine: hash and size of the engine.
    """

    schema_version: int = ENGINE_SCHEMA_VERSION
    bundle_digest: str
    onnx_sha256: str
    target: str
    library: Library
    library_version: str
    compute_capability: str | None
    built_for: tuple[str, ...]
    device_name: str | None
    driver: str | None
    platform: str
    hardware_compatibility: HardwareCompatibility
    version_compatible: bool
    precision: EnginePrecision
    build_seconds: float
    engine: FileRecord

    def __post_init__(self) -> None:
        for name in ("bundle_digest", "onnx_sha256"):
            if not _SHA256.fullmatch(getattr(self, name)):
                raise InputError(f"{name}: wanted 64 lower-case hexadecimal digits")
        capabilities = self.built_for if self.compute_capability is None else (self.compute_capability, *self.built_for)
        for capability in capabilities:
            if not _CAPABILITY.fullmatch(capability):
                raise InputError(f"compute capability: got {capability[:20]!r}, wanted one such as 8.7")
        if self.build_seconds < 0:
            raise InputError(f"build_seconds: got {self.build_seconds}, wanted 0 or more")


class NoEngine(InputError):
    """A bundle has no engine that runs here: none, a damaged one, or one that does not fit. Building one mends that."""


def library_of(runtime: str) -> Library | None:
    """The module that builds and runs the engines of a runtime; None for a runtime without engines."""
    return _LIBRARIES.get(runtime)


def extra_of(library: Library) -> str:
    """The extra of the distribution that brings a library."""
    return _EXTRAS[library]


def engine_target(bundle: Bundle, library: Library) -> str | None:
    """The target to build a library's engine for: the bundle's own, or the only one; None if there is a choice."""
    targets = [target.name for target in TARGETS if library_of(target.runtime) == library]
    own = bundle.manifest.target
    return own if own in targets else targets[0] if len(targets) == 1 else None


def build_command(bundle: Bundle, library: Library) -> str:
    """The command line that builds the engine that is wanted."""
    return f"edgevit build {shlex.quote(str(bundle.path))} --target {engine_target(bundle, library) or 'NAME'}"
