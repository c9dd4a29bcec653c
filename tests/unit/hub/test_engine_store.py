from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from edgevit import engine_store
from edgevit.bundle import Bundle, device_dir
from edgevit.bundle_writer import write_bundle
from edgevit.engine_record import EnginePrecision, EngineRecord, NoEngine
from edgevit.engine_store import engine_path, read_engine, record_path, write_engine
from edgevit.errors import InputError
from edgevit.files import sha256
from edgevit.manifest import FileRecord, Manifest
from edgevit.strict_json import encode

PRECISION = EnginePrecision(
    requested="fp16", products={"fp16": 0.9, "fp32": 0.1}, layers={"fp16": 0.75, "fp32": 0.25},
    weight_bytes={"fp16": 200, "fp32": 40}, attention={"fp16": 12}, attention_fusable=12, kernels={"fp16": 1.0},
    attention_fused=None,
)  # fmt: skip


def record_of(bundle: Bundle, engine: bytes, **changes: Any) -> EngineRecord:
    given: dict[str, Any] = {
        "bundle_digest": bundle.digest,
        "onnx_sha256": bundle.manifest.files["model.onnx"].sha256,
        "target": "jetson-orin",
        "library": "tensorrt",
        "library_version": "10.3.0",
        "compute_capability": "8.7",
        "built_for": (),
        "device_name": "Orin",
        "driver": "CUDA 12.6",
        "platform": "linux-aarch64",
        "hardware_compatibility": "none",
        "version_compatible": False,
        "precision": PRECISION,
        "build_seconds": 95.25,
        "engine": FileRecord(sha256=sha256(engine), size_bytes=len(engine)),
    }
    return EngineRecord(**(given | changes))


@pytest.fixture
def bundle(tmp_path: Path, manifest: Manifest, content: dict[str, bytes]) -> Bundle:
    return write_bundle(tmp_path / "a bundle", replace(manifest, target="jetson-orin"), content)


def test_an_engine_is_read_as_it_was_written_and_the_bundle_does_not_change(bundle: Bundle) -> None:
    record = record_of(bundle, b"engine")
    path = write_engine(bundle, b"engine", record)
    found, read = read_engine(bundle, "tensorrt")
    assert found == record
    assert read() == b"engine"
    assert path == engine_path(bundle, record) and path.parent == device_dir(bundle)
    assert Bundle.open(bundle.path).digest == bundle.digest


def test_the_engines_of_two_libraries_stand_side_by_side(bundle: Bundle) -> None:
    write_engine(bundle, b"one", record_of(bundle, b"one"))
    write_engine(bundle, b"two", record_of(bundle, b"two", library="tensorrt_rtx"))
    assert read_engine(bundle, "tensorrt")[1]() == b"one"
    assert read_engine(bundle, "tensorrt_rtx")[1]() == b"two"


def test_a_new_engine_takes_the_place_of_the_old_one(bundle: Bundle) -> None:
    write_engine(bundle, b"old", record_of(bundle, b"old"))
    write_engine(bundle, b"new", record_of(bundle, b"new"))
    assert read_engine(bundle, "tensorrt")[1]() == b"new"
    assert len(os.listdir(device_dir(bundle))) == 2


def test_the_same_engine_again_is_kept(bundle: Bundle) -> None:
    write_engine(bundle, b"same", record_of(bundle, b"same"))
    write_engine(bundle, b"same", record_of(bundle, b"same", build_seconds=1.0))
    record, read = read_engine(bundle, "tensorrt")
    assert record.build_seconds == 1.0 and read() == b"same"


def test_without_an_engine_the_command_that_builds_it_is_told(bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"has no engine of tensorrt; run: edgevit build '.*/a bundle' --target jets"):
        read_engine(bundle, "tensorrt")


def test_an_engine_whose_bytes_changed_is_not_handed_out(bundle: Bundle) -> None:
    path = write_engine(bundle, b"engine", record_of(bundle, b"engine"))
    for changed in (b"Engine", b"engine and more", b"engin", b""):
        path.write_bytes(changed)
        _, read = read_engine(bundle, "tensorrt")
        with pytest.raises(InputError, match="is not the engine that its record describes, so it is not loaded; run: "):
            read()


def test_a_record_of_an_engine_of_more_bytes_than_memory_is_refused_as_another_is(bundle: Bundle) -> None:
    write_engine(bundle, b"engine", record_of(bundle, b"engine"))
    where = record_path(bundle, "tensorrt")
    values = json.loads(where.read_bytes())
    values["engine"]["size_bytes"] = 10**14
    where.write_text(json.dumps(values))
    _, read = read_engine(bundle, "tensorrt")
    with pytest.raises(NoEngine, match="is not the engine that its record describes"):
        read()


def test_a_link_in_place_of_an_engine_is_not_followed(bundle: Bundle, tmp_path: Path) -> None:
    path = write_engine(bundle, b"engine", record_of(bundle, b"engine"))
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"cannot be read .*; run: edgevit build"):
        read_engine(bundle, "tensorrt")[1]()


def test_an_engine_that_is_gone_is_one_line(bundle: Bundle) -> None:
    write_engine(bundle, b"engine", record_of(bundle, b"engine")).unlink()
    _, read = read_engine(bundle, "tensorrt")
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\); run: edgevit build"):
        read()


def test_an_engine_that_was_built_again_since_its_record_was_read_is_the_new_one(bundle: Bundle) -> None:
    write_engine(bundle, b"old", record_of(bundle, b"old"))
    _, read = read_engine(bundle, "tensorrt")
    write_engine(bundle, b"newer", record_of(bundle, b"newer", build_seconds=1.0))
    assert read() == b"newer"
    engine_path(bundle, record_of(bundle, b"newer")).write_bytes(b"never")
    with pytest.raises(NoEngine, match="is not the engine that its record describes"):
        read()


def test_an_engine_that_was_built_for_something_else_meanwhile_is_not_handed_out_on_the_old_record(
    bundle: Bundle,
) -> None:
    write_engine(bundle, b"old", record_of(bundle, b"old"))
    _, read = read_engine(bundle, "tensorrt")
    write_engine(bundle, b"new", record_of(bundle, b"new", version_compatible=True))
    with pytest.raises(InputError, match="another engine was built for it meanwhile; load it again"):
        read()


def test_the_engine_of_another_bundle_is_refused(bundle: Bundle, tmp_path: Path, content: dict[str, bytes]) -> None:
    other = write_bundle(tmp_path / "other", replace(bundle.manifest, name="other"), content)
    write_engine(bundle, b"engine", record_of(bundle, b"engine"))
    device_dir(bundle).rename(device_dir(other))
    with pytest.raises(InputError, match=r"its engine was built from another bundle than .*/other; run: edgevit build"):
        read_engine(other, "tensorrt")


def test_the_engine_of_another_graph_is_refused(bundle: Bundle) -> None:
    write_engine(bundle, b"engine", record_of(bundle, b"engine", onnx_sha256="0" * 64))
    with pytest.raises(NoEngine, match="its engine was built from another bundle"):
        read_engine(bundle, "tensorrt")


def test_a_record_under_the_name_of_another_library_is_refused(bundle: Bundle) -> None:
    write_engine(bundle, b"engine", record_of(bundle, b"engine"))
    record_path(bundle, "tensorrt").rename(record_path(bundle, "tensorrt_rtx"))
    with pytest.raises(InputError, match="is of an engine of tensorrt, wanted tensorrt_rtx"):
        read_engine(bundle, "tensorrt_rtx")


@pytest.mark.parametrize("key", [field.name for field in fields(EngineRecord)])
def test_every_key_of_a_record_is_wanted(bundle: Bundle, key: str) -> None:
    write_engine(bundle, b"engine", record_of(bundle, b"engine"))
    where = record_path(bundle, "tensorrt")
    values = json.loads(where.read_bytes())
    del values[key]
    where.write_text(json.dumps(values))
    with pytest.raises(InputError, match=f"missing key '{key}'.*; run: edgevit build") as caught:
        read_engine(bundle, "tensorrt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"schema_version": 2}, "schema version 2, this edgevit reads 1"),
        ({"library": "torch"}, "wanted tensorrt or tensorrt_rtx"),
        ({"bundle_digest": "0"}, "bundle_digest: wanted 64 lower-case hexadecimal digits"),
        ({"compute_capability": "sm_87"}, "compute capability: got 'sm_87', wanted one such as 8.7"),
        ({"built_for": ["../.."]}, "compute capability: got"),
        ({"build_seconds": -1}, "build_seconds: got -1.0"),
        ({"device_name": "a\nb"}, "text without control characters"),
        ({"engine": {"sha256": "../../etc", "size_bytes": 1}}, "sha256: wanted 64"),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_a_record_that_edgevit_did_not_write_is_refused(bundle: Bundle, changes: dict[str, Any], says: str) -> None:
    write_engine(bundle, b"engine", record_of(bundle, b"engine"))
    where = record_path(bundle, "tensorrt")
    where.write_text(json.dumps(json.loads(where.read_bytes()) | changes))
    with pytest.raises(InputError, match=says):
        read_engine(bundle, "tensorrt")


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"{" * 5000, b" " * (2**20 + 1)])
def test_a_record_that_is_none_is_refused_and_built_over(bundle: Bundle, data: bytes) -> None:
    write_engine(bundle, b"engine", record_of(bundle, b"engine"))
    record_path(bundle, "tensorrt").write_bytes(data)
    with pytest.raises(InputError, match="; run: edgevit build"):
        read_engine(bundle, "tensorrt")
    write_engine(bundle, b"again", record_of(bundle, b"again"))
    assert read_engine(bundle, "tensorrt")[1]() == b"again"


def test_a_record_of_other_bytes_or_another_bundle_is_a_bug_of_the_caller(bundle: Bundle) -> None:
    with pytest.raises(AssertionError, match="another engine"):
        write_engine(bundle, b"engine", record_of(bundle, b"other"))
    with pytest.raises(AssertionError, match="another bundle"):
        write_engine(bundle, b"engine", record_of(bundle, b"engine", bundle_digest="0" * 64))


def test_where_nothing_can_be_written_the_old_engine_stays(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    write_engine(bundle, b"old", record_of(bundle, b"old"))
    write = engine_store.atomic_write

    def refuse_records(path: Path, data: bytes) -> None:
        if path.suffix == ".json":
            raise InputError(f"{path}: cannot be written (No space left on device)")
        write(path, data)

    monkeypatch.setattr(engine_store, "atomic_write", refuse_records)
    with pytest.raises(InputError, match="No space left on device"):
        write_engine(bundle, b"new", record_of(bundle, b"new"))
    assert read_engine(bundle, "tensorrt")[1]() == b"old"
    assert len(os.listdir(device_dir(bundle))) == 2


def test_a_folder_that_cannot_be_made_is_one_line(bundle: Bundle) -> None:
    device_dir(bundle).write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        write_engine(bundle, b"new", record_of(bundle, b"new"))


# A process of its own that is killed at the n-th thing it asks of the file system.
CHILD = """
import os, signal, sys
from pathlib import Path
from edgevit.bundle import Bundle
from edgevit.engine_record import EngineRecord
from edgevit.engine_store import write_engine
from edgevit.strict_json import decode

bundle, left = Bundle.open(sys.argv[1]), int(sys.argv[3])
record = decode(EngineRecord, Path(sys.argv[2]).read_bytes(), "")

def count(event, arguments):
    global left
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
write_engine(bundle, b"new" * 10_000, record)
"""


def test_kill_9_at_any_step_leaves_the_old_engine_or_the_new_one(bundle: Bundle, tmp_path: Path) -> None:
    write_engine(bundle, b"old", record_of(bundle, b"old"))
    (tmp_path / "record").write_bytes(encode(record_of(bundle, b"new" * 10_000)))
    found = []
    for step in range(1, 100):
        arguments = [str(bundle.path), str(tmp_path / "record"), str(step)]
        done = subprocess.run([sys.executable, "-c", CHILD, *arguments], capture_output=True, check=False, timeout=60)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
        found.append(read_engine(bundle, "tensorrt")[1]()[:3])
        if done.returncode == 0:
            break
    assert done.returncode == 0 and found.count(b"old") >= 4
    assert found == sorted(found, reverse=True)


def test_each_graph_of_a_staged_bundle_has_an_engine_of_its_own(
    tmp_path: Path, manifest: Manifest, content: dict[str, bytes]
) -> None:
    stages = {"enter.onnx": b"one graph", "rest-4.onnx": b"another"}
    bundle = write_bundle(tmp_path / "staged", manifest, content | stages)
    for graph in stages:
        of_graph = bundle.manifest.files[graph].sha256
        write_engine(bundle, b"engine", record_of(bundle, b"engine", onnx_sha256=of_graph), graph)
    assert [read_engine(bundle, "tensorrt", graph)[1]() for graph in stages] == [b"engine"] * 2
    with pytest.raises(NoEngine, match="has no engine of tensorrt; "):
        read_engine(bundle, "tensorrt")
    record_path(bundle, "tensorrt", "enter.onnx").rename(record_path(bundle, "tensorrt", "rest-4.onnx"))
    with pytest.raises(NoEngine, match="another bundle"):
        read_engine(bundle, "tensorrt", "rest-4.onnx")
    with pytest.raises(NoEngine, match=r"has no engine of tensorrt for enter\.onnx"):
        read_engine(bundle, "tensorrt", "enter.onnx")
