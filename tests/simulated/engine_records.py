"""The record of an engine, for tests of what is decided by it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from edgevit.engine_fit import this_platform
from edgevit.engine_record import EngineRecord
from edgevit.manifest import FileRecord

_ORIN: Any = {
    "bundle_digest": "0" * 64,
    "onnx_sha256": "1" * 64,
    "target": "jetson-orin",
    "library": "tensorrt",
    "library_version": "10.3.0",
    "compute_capability": "8.7",
    "built_for": (),
    "device_name": "Simulated",
    "driver": None,
    "platform": this_platform(),
    "hardware_compatibility": "none",
    "version_compatible": False,
    "precision": SimpleNamespace(),  # what an engine computes in decides nothing about whether it is loaded
    "build_seconds": 1.0,
    "engine": FileRecord(sha256="2" * 64, size_bytes=1),
}


def engine_record(**changes: Any) -> EngineRecord:
    """Of an engine that TensorRT 10.3.0 built on the simulated device, with changes."""
    return replace(EngineRecord(**_ORIN), **changes)
