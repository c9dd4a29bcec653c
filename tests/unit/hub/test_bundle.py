from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgevit.bundle import Bundle, device_dir, rest_name
from edgevit.bundle_writer import write_bundle
from edgevit.errors import InputError
from edgevit.manifest import Manifest
from edgevit.spec import RoutingSpec

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def path(tmp_path: Path, manifest: Manifest, content: dict[str, bytes]) -> Path:
    return write_bundle(tmp_path / "steel", manifest, content).path


def rewrite_manifest(path: Path, edit: Edit) -> None:
    record = json.loads((path / "manifest.json").read_bytes())
    edit(record)
    (path / "manifest.json").write_text(json.dumps(record))


def test_what_was_written_is_read_back(path: Path, manifest: Manifest, content: dict[str, bytes]) -> None:
    bundle = Bundle.open(path)
    assert {name: bundle.read(name) for name in content} == content
    assert bundle.manifest.labels == manifest.labels
    assert bundle.manifest.routing == manifest.routing
    assert bundle.digest == hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()
    assert bundle.golden()["logits"].tolist() == [[1.0, 2.0]]
    bundle.verify_files()


def test_a_bundle_opens_through_a_link_to_its_folder_and_knows_the_folder_itself(path: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(path)
    bundle = Bundle.open(tmp_path / "current")
    assert bundle.path == path
    assert device_dir(bundle) == tmp_path / "steel.device"


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "parity.json"])
def test_a_flipped_byte_is_found_before_a_byte_is_handed_out(path: Path, name: str) -> None:
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    bundle = Bundle.open(path)
    with pytest.raises(InputError, match=f"{name}: SHA-256 differs"):
        bundle.read(name)
    with pytest.raises(InputError, match=f"{name}: SHA-256 differs"):
        bundle.verify_files()


def test_a_file_that_grew_after_opening_is_refused(path: Path) -> None:
    bundle = Bundle.open(path)
    with (path / "model.onnx").open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match="SHA-256 differs"):
        bundle.read("model.onnx")


def test_a_file_swapped_for_a_link_after_opening_is_not_followed(path: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(path)
    (path / "model.onnx").rename(tmp_path / "elsewhere")
    (path / "model.onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"model\.onnx: cannot be read"):
        bundle.read("model.onnx")


def test_a_name_that_is_not_listed_is_not_read(path: Path) -> None:
    with pytest.raises(InputError, match=r"no file 'manifest\.json'; it has golden\.npz, model\.onnx, parity\.json"):
        Bundle.open(path).read("manifest.json")


@pytest.mark.parametrize("name", ["golden.npz", "model.onnx"])
def test_a_missing_file_is_named(path: Path, name: str) -> None:
    (path / name).unlink()
    with pytest.raises(InputError, match=f"missing file '{name}'"):
        Bundle.open(path)


@pytest.mark.parametrize("name", ["extra.onnx", ".hidden", "Manifest.json"])
def test_an_unlisted_file_is_named(path: Path, name: str) -> None:
    (path / name).touch()
    with pytest.raises(InputError, match=f"unlisted file '{name}'"):
        Bundle.open(path)


def test_a_file_of_another_size_is_named_with_both_sizes(path: Path) -> None:
    (path / "parity.json").write_bytes(b"{}")
    with pytest.raises(InputError, match=r"parity\.json: is 2 bytes, wanted 3"):
        Bundle.open(path)


def test_a_link_a_folder_and_a_pipe_in_a_bundle_are_refused(path: Path) -> None:
    for make in (lambda p: p.symlink_to("/etc/hostname"), Path.mkdir, os.mkfifo):
        make(path / "odd")
        with pytest.raises(InputError, match="'odd' is not a regular file"):
            Bundle.open(path)
        (path / "odd").rmdir() if (path / "odd").is_dir() else (path / "odd").unlink()
    (path / "manifest.json").rename(path.parent / "manifest.json")
    (path / "manifest.json").symlink_to(path.parent / "manifest.json")
    with pytest.raises(InputError, match=r"'manifest\.json' is not a regular file"):
        Bundle.open(path)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "..", ".", "", ".hidden", "a\\b", "C:x", "x\n", "manifest.json"]
)
def test_a_listed_path_that_could_leave_the_bundle_is_refused(path: Path, name: str) -> None:
    (path.parent / "x").write_bytes(b"secret")
    record = {"sha256": hashlib.sha256(b"secret").hexdigest(), "size_bytes": 6}
    rewrite_manifest(path, lambda manifest: manifest["files"].update({name: record}))
    with pytest.raises(InputError, match=r"manifest\.json: files") as caught:
        Bundle.open(path)
    assert "\n" not in str(caught.value)


def test_a_newer_schema_asks_for_an_upgrade_whatever_else_it_holds(path: Path) -> None:
    (path / "manifest.json").write_text('{"schema_version": 3, "anything": "else"}')
    with pytest.raises(InputError, match="schema version 3 is newer than 2; upgrade edgevit"):
        Bundle.open(path)


def test_a_huge_size_is_refused_without_being_believed(path: Path) -> None:
    rewrite_manifest(path, lambda manifest: manifest["files"]["model.onnx"].update(size_bytes=10**18))
    with pytest.raises(InputError, match="is 500 bytes, wanted 1000000000000000000"):
        Bundle.open(path)


def test_a_huge_manifest_is_not_read(path: Path) -> None:
    with (path / "manifest.json").open("ab") as file:
        file.truncate(2**40)  # sparse: takes no room
    with pytest.raises(InputError, match="bytes, wanted 16777216 at most"):
        Bundle.open(path)


def test_what_is_no_bundle_is_called_so(path: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place, message in (
        (tmp_path / "nothing", "no such folder"),
        (tmp_path / ("x" * 300), r"cannot be read \(File name too long\)"),
        (path / "model.onnx", r"cannot be read \(Not a directory\)"),
        (tmp_path / "empty", r"holds no manifest\.json"),
    ):
        with pytest.raises(InputError, match=f"{message}; wanted a bundle"):
            Bundle.open(place)


def test_an_error_of_the_manifest_is_one_line_that_names_the_file(path: Path) -> None:
    (path / "manifest.json").write_bytes(b'{"schema_version":\n\n oops')
    with pytest.raises(InputError, match=rf"{path}/manifest\.json: not valid JSON") as caught:
        Bundle.open(path)
    assert "\n" not in str(caught.value)


def staged(manifest: Manifest, content: dict[str, bytes], budgets: tuple[tuple[int, ...], ...], *graphs: str) -> Any:
    """A manifest with these budgets and the content with these graphs."""
    routing = RoutingSpec(
        mode="adaptive", router="token_choice", selection=None, steps=len(budgets) + 1, grid=(2, 2), budgets=budgets
    )
    others = {name: data for name, data in content.items() if not name.endswith(".onnx")}
    return replace(manifest, routing=routing, reduction=None), others | {name: name.encode() for name in graphs}


def test_a_bundle_of_one_graph_has_no_stages(path: Path) -> None:
    assert Bundle.open(path).stages is None
    assert Bundle.open(path).graphs == ("model.onnx",)


def test_a_ladder_in_one_graph_is_no_stage(tmp_path: Path, manifest: Manifest, content: dict[str, bytes]) -> None:
    assert write_bundle(tmp_path / "one", *staged(manifest, content, ((0, 4), (0, 4)), "model.onnx")).stages is None


def test_stages_are_found_by_the_budgets(tmp_path: Path, manifest: Manifest, content: dict[str, bytes]) -> None:
    graphs = ("enter.onnx", "rest-0.onnx", "rest-1.onnx", "rest-4.onnx")
    bundle = write_bundle(tmp_path / "staged", *staged(manifest, content, ((0, 1, 4), (0, 1, 4)), *graphs))
    assert bundle.stages is not None and bundle.stages.enter == "enter.onnx"
    assert dict(bundle.stages.rests) == {k: rest_name(k) for k in (0, 1, 4)}
    assert bundle.graphs == graphs


@pytest.mark.parametrize(
    "budgets, graphs",
    [
        (((0, 4),), ("enter.onnx", "rest-0.onnx")),  # a budget without its graph
        (((0, 4),), ("enter.onnx", "rest-0.onnx", "rest-2.onnx", "rest-4.onnx")),  # a graph without its budget
        (((0, 4),), ("rest-0.onnx", "rest-4.onnx")),
        (((0, 4),), ("model.onnx", "enter.onnx", "rest-0.onnx", "rest-4.onnx")),
        (((0, 4), (1, 4)), ("enter.onnx", "rest-0.onnx", "rest-4.onnx")),  # the host chooses once
        (((0, 4),), ()),
    ],
)
def test_budgets_and_graphs_that_disagree_are_refused(
    budgets: tuple[tuple[int, ...], ...],
    graphs: tuple[str, ...],
    tmp_path: Path,
    manifest: Manifest,
    content: dict[str, bytes],
) -> None:
    bundle = write_bundle(tmp_path / "odd", *staged(manifest, content, budgets, *graphs))
    with pytest.raises(InputError, match=f"has graphs {', '.join(sorted(graphs)) or 'none'}.* want"):
        _ = bundle.stages
