from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from edgevit import bundle_writer
from edgevit.bundle import Bundle
from edgevit.bundle_writer import check_output, write_bundle
from edgevit.errors import InputError
from edgevit.manifest import Manifest


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_arguments_give_the_same_bytes_and_no_leftovers(
    tmp_path: Path, manifest: Manifest, content: dict[str, bytes]
) -> None:
    write_bundle(tmp_path / "a", manifest, content)
    write_bundle(tmp_path / "b", manifest, dict(reversed(content.items())))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_missing_parents_are_made(tmp_path: Path, manifest: Manifest, content: dict[str, bytes]) -> None:
    assert write_bundle(tmp_path / "d" / "e" / "a", manifest, content).path == tmp_path / "d" / "e" / "a"


def test_an_existing_output_is_refused_and_untouched_without_force(
    tmp_path: Path, manifest: Manifest, content: dict[str, bytes]
) -> None:
    old = write_bundle(tmp_path / "a", manifest, content)
    with pytest.raises(InputError, match="exists already; use --force"):
        write_bundle(tmp_path / "a", replace(manifest, name="new"), content)
    assert Bundle.open(tmp_path / "a").digest == old.digest


def test_force_replaces_a_bundle_and_leaves_nothing_of_the_old_one(
    tmp_path: Path, manifest: Manifest, content: dict[str, bytes]
) -> None:
    write_bundle(tmp_path / "a", manifest, {**content, "old.bin": b"old"})
    new = write_bundle(tmp_path / "a", replace(manifest, name="new"), content, force=True)
    assert new.manifest.name == "new"
    assert sorted(new.manifest.files) == sorted(content)
    assert os.listdir(tmp_path) == ["a"]


def test_force_fills_an_empty_folder_but_spares_what_is_not_a_bundle(
    tmp_path: Path, manifest: Manifest, content: dict[str, bytes]
) -> None:
    (tmp_path / "empty").mkdir()
    write_bundle(tmp_path / "empty", manifest, content, force=True).verify_files()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").touch()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name, message in (
        ("x" * 300, "File name too long"),
        ("home", "not a bundle"),
        ("home/thesis.txt", "not a bundle"),
        ("link", "symbolic link"),
    ):
        with pytest.raises(InputError, match=message):
            check_output(tmp_path / name, force=True)
    assert (tmp_path / "home" / "thesis.txt").exists()


def test_a_file_system_that_cannot_swap_gets_the_new_bundle_in_two_steps(
    tmp_path: Path, manifest: Manifest, content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class OldLibrary:
        def __init__(self, *arguments: object, **options: object) -> None: ...

    write_bundle(tmp_path / "a", manifest, content)
    monkeypatch.setattr(bundle_writer.ctypes, "CDLL", OldLibrary)
    assert write_bundle(tmp_path / "a", replace(manifest, name="new"), content, force=True).manifest.name == "new"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("can_swap", [True, False])
def test_the_old_bundle_survives_a_swap_that_fails(
    tmp_path: Path, manifest: Manifest, content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, can_swap: bool
) -> None:
    class FailingLibrary:
        def __init__(self, *arguments: object, **options: object) -> None:
            if can_swap:
                self.renameat2 = lambda *arguments: bundle_writer.ctypes.set_errno(28) or -1

    rename = os.rename

    def refuse_the_new(source: Path, target: Path) -> None:
        if target == tmp_path / "a" and source.name.endswith(".partial") and (source / "fresh.bin").exists():
            raise OSError(28, "No space left on device")
        rename(source, target)

    old = write_bundle(tmp_path / "a", manifest, content)
    monkeypatch.setattr(bundle_writer.ctypes, "CDLL", FailingLibrary)
    monkeypatch.setattr(bundle_writer.os, "rename", refuse_the_new)
    with pytest.raises(InputError, match="No space left on device"):
        write_bundle(tmp_path / "a", manifest, {**content, "fresh.bin": b"1"}, force=True)
    bundle = Bundle.open(tmp_path / "a")
    bundle.verify_files()
    assert bundle.digest == old.digest
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", "manifest.json", ".x"])
def test_a_file_name_that_no_reader_would_take_is_not_written(tmp_path: Path, manifest: Manifest, name: str) -> None:
    with pytest.raises(InputError, match="wanted a plain file name"):
        write_bundle(tmp_path / "a", manifest, {name: b""})
    assert os.listdir(tmp_path) == []


def test_a_manifest_that_could_not_be_read_back_is_not_written(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(InputError, match="control characters"):
        write_bundle(tmp_path / "a", replace(manifest, versions={"python": "3.11 \n[GCC]"}), {})
    assert os.listdir(tmp_path) == []


# A process of its own that writes a bundle and is killed at the n-th thing it asks of the file system, so that every
# step of the writer is the last one once.
CHILD = """
import os, signal, sys
from pathlib import Path
from edgevit.bundle_writer import write_bundle
from edgevit.manifest import Manifest

target, manifest, force, last = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "force", int(sys.argv[4])
loaded = Manifest.from_json(manifest.read_bytes())
left = last

def count(event, arguments):
    global left
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "ctypes.dlsym"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
write_bundle(target, loaded, {"model.onnx": b"new" * 100_000, "parity.json": b"{}"}, force=force)
"""


def killed_at_every_step(folder: Path, manifest: Manifest, *, force: bool) -> Iterator[int]:
    """Run the writer again and again, killed one step later each time, until it ends unharmed."""
    (folder / "wanted.json").write_bytes(replace(manifest, name="new").to_json())
    for step in range(1, 200):
        arguments = [str(folder / "a"), str(folder / "wanted.json"), "force" if force else "keep", str(step)]
        done = subprocess.run([sys.executable, "-c", CHILD, *arguments], capture_output=True, check=False, timeout=60)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
        yield step
        if done.returncode == 0:
            return
    pytest.fail("the writer never ended")


def test_kill_9_at_any_step_leaves_no_bundle_or_a_whole_one(tmp_path: Path, manifest: Manifest) -> None:
    outcomes = []
    for _ in killed_at_every_step(tmp_path, manifest, force=False):
        outcomes.append((tmp_path / "a").exists())
        if outcomes[-1]:
            Bundle.open(tmp_path / "a").verify_files()
            for path in (tmp_path / "a").iterdir():
                path.unlink()
            (tmp_path / "a").rmdir()
    assert outcomes.count(False) >= 6
    assert outcomes == sorted(outcomes)


def test_kill_9_at_any_step_of_a_replacement_leaves_the_old_bundle_or_the_new_one(
    tmp_path: Path, manifest: Manifest, content: dict[str, bytes]
) -> None:
    write_bundle(tmp_path / "a", manifest, content)
    names = []
    for _ in killed_at_every_step(tmp_path, manifest, force=True):
        bundle = Bundle.open(tmp_path / "a")
        bundle.verify_files()
        names.append(bundle.manifest.name)
    assert names.count("steel") >= 6
    assert names == sorted(names, reverse=True)  # "steel" up to the swap, "new" from then on


LIMITED = """
import resource, sys
from pathlib import Path
from edgevit.bundle_writer import write_bundle
from edgevit.errors import InputError
from edgevit.manifest import Manifest

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
manifest = Manifest.from_json(Path(sys.argv[2]).read_bytes())
try:
    write_bundle(Path(sys.argv[1]), manifest, {"a.bin": b"x", "model.onnx": bytes(1_000_000)}, force=True)
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("place", ["a", "new/parents/a"])
def test_a_file_too_large_for_the_system_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, manifest: Manifest, content: dict[str, bytes], place: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "wanted.json").write_bytes(manifest.to_json())
    write_bundle(tmp_path / "out" / "a", manifest, content)
    before = tree(tmp_path / "out")
    arguments = [str(tmp_path / "out" / place), str(tmp_path / "wanted.json")]
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().splitlines() == [
        f"{tmp_path / 'out' / place}: cannot be written (File too large); make room there or write elsewhere"
    ]
    assert tree(tmp_path / "out") == before
    assert os.listdir(tmp_path / "out") == ["a"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a small tmpfs cannot be mounted here (needs root); the limit on file sizes is tested instead")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_leaves_the_old_bundle_alone(
    small_disk: Path, manifest: Manifest, content: dict[str, bytes]
) -> None:
    old = write_bundle(small_disk / "a", manifest, content)
    big = {**content, "model.onnx": bytes(1_000_000)}
    for name in ("a", "b"):
        with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)") as caught:
            write_bundle(small_disk / name, manifest, big, force=True)
        assert "\n" not in str(caught.value)
    assert os.listdir(small_disk) == ["a"]
    assert Bundle.open(small_disk / "a").digest == old.digest


def test_an_interrupt_leaves_nothing(tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle_writer, "sync_folder", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "new" / "a", manifest, {"model.onnx": b"1"})
    assert os.listdir(tmp_path) == []


def test_a_bundle_takes_no_other_bundle_inside(tmp_path: Path, manifest: Manifest, content: dict[str, bytes]) -> None:
    digest = write_bundle(tmp_path / "a", manifest, content).digest
    with pytest.raises(InputError, match="lies inside a bundle"):
        write_bundle(tmp_path / "a" / "in", manifest, content)
    assert Bundle.open(tmp_path / "a").digest == digest
