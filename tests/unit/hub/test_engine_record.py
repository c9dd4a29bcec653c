from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.bundle import Bundle
from edgevit.bundle_writer import write_bundle
from edgevit.engine_record import EnginePrecision, EngineRecord, build_command, library_of
from edgevit.files import sha256
from edgevit.manifest import FileRecord, Manifest
from edgevit.strict_json import decode, encode

PRECISION = EnginePrecision(
    requested="fp16", products={"fp16": 0.9, "fp32": 0.1}, layers={"fp16": 0.75, "fp32": 0.25},
    weight_bytes={"fp16": 200, "fp32": 40}, attention={"fp16": 12}, attention_fusable=12, kernels={"fp16": 1.0},
    attention_fused=None,
)  # fmt: skip


@pytest.fixture
def bundle(tmp_path: Path, manifest: Manifest, content: dict[str, bytes]) -> Bundle:
    return write_bundle(tmp_path / "a bundle", replace(manifest, target="jetson-orin"), content)


@given(st.binary(max_size=200), st.floats(0, 1e6), st.booleans())
def test_a_record_survives_its_json(engine: bytes, seconds: float, compatible: bool) -> None:
    record = EngineRecord(
        bundle_digest="0" * 64, onnx_sha256="1" * 64, target="rtx", library="tensorrt_rtx", library_version="1.7.1",
        compute_capability=None, built_for=("8.6", "12.0"), device_name=None, driver=None, platform="linux-x86_64",
        hardware_compatibility="none", version_compatible=compatible, precision=PRECISION, build_seconds=seconds,
        engine=FileRecord(sha256=sha256(engine), size_bytes=len(engine)),
    )  # fmt: skip
    assert decode(EngineRecord, encode(record), "record") == record


def test_the_command_names_the_bundles_target_if_the_library_serves_it(bundle: Bundle) -> None:
    assert build_command(bundle, "tensorrt").endswith("--target jetson-orin")
    assert build_command(bundle, "tensorrt_rtx").endswith("--target rtx")
    elsewhere = replace(bundle, manifest=replace(bundle.manifest, target="cpu-x86"))
    assert build_command(elsewhere, "tensorrt").endswith("--target NAME")


def test_only_targets_of_tensorrt_have_a_library() -> None:
    assert [library_of(runtime) for runtime in ("ort", "trt", "trt-rtx", "ov")] == [
        None, "tensorrt", "tensorrt_rtx", None,
    ]  # fmt: skip
