"""Write a bundle in one step: whatever happens on the way, its path holds a whole bundle or what it held before.

Everything is written into a hidden folder beside the path, the manifest last, forced to the disk and renamed into
place. A process killed on the way leaves at most that hidden folder, whose name ends in `.partial`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from edgevit.bundle import Bundle
from edgevit.errors import InputError
from edgevit.files import cannot_write, reading, scratch_name, sha256, sync_folder, write_synced
from edgevit.manifest import MANIFEST_NAME, FileRecord, Manifest
from edgevit.strict_json import parse

__all__ = ["check_output", "write_bundle"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_bundle(path: str | Path, manifest: Manifest, files: Mapping[str, bytes], *, force: bool = False) -> Bundle:
    """Write a bundle; the same arguments give the same bytes.

    Args:
        path: the folder to become the bundle; missing parents are made.
        manifest: what the bundle says of itself; its `files` are filled in here.
        files: content of each file by name.
        force: replace an existing bundle, which is deleted only after the new one is in its place.

    Raises:
        InputError: as `check_output`; a file name or a text of the manifest is not allowed; the disk is full or not
            writable, and nothing was left behind.
    """
    path = check_output(path, force=force)
    records = {name: FileRecord(sha256=sha256(data), size_bytes=len(data)) for name, data in files.items()}
    manifest_bytes = replace(manifest, files=records).to_json()
    Manifest.from_json(manifest_bytes)  # what cannot be read back must not be written

    made_parents = [parent for parent in path.parents if not parent.exists()]
    scratch = path.with_name(scratch_name(path))
    try:
        scratch.mkdir(parents=True)
        for name in sorted(files):
            write_synced(scratch / name, files[name])
        write_synced(scratch / MANIFEST_NAME, manifest_bytes)
        sync_folder(scratch)
        if force and path.exists():
            _exchange(scratch, path)
        else:
            os.rename(scratch, path)
        sync_folder(path.parent)
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        for parent in made_parents:
            with suppress(OSError):  # another process has put something there
                parent.rmdir()
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise
    shutil.rmtree(scratch, ignore_errors=True)  # the old bundle, if there was one; the new one stands either way
    return Bundle.open(path)


def check_output(path: str | Path, *, force: bool = False) -> Path:
    """The absolute path, if a bundle may be written there; ask before long work, `write_bundle` asks again.

    Raises:
        InputError: something exists there and `force` is off, or it is neither a bundle nor an empty folder;
            it lies inside a bundle.
    """
    path = Path(path)
    with reading(path, "choose another output directory"):
        if path.is_symlink():
            raise InputError(f"{path}: is a symbolic link; give the folder itself")
        path = path.resolve()
        if (path.parent / MANIFEST_NAME).is_file() and _was_bundle(path.parent):
            raise InputError(f"{path}: lies inside a bundle, which never changes; choose another output directory")
        if not path.exists():
            return path
        if not force:
            raise InputError(f"{path}: exists already; use --force to replace it, or another output directory")
        if not path.is_dir() or (any(path.iterdir()) and not _was_bundle(path)):
            raise InputError(
                f"{path}: exists and is not a bundle, so it is not replaced; choose another output directory"
            )
    return path


def _was_bundle(folder: Path) -> bool:
    """Whether the folder is a bundle, be it of another version or damaged: flat, with a manifest that says so."""
    if not all(entry.is_file() and not entry.is_symlink() for entry in folder.iterdir()):
        return False
    try:
        record = parse((folder / MANIFEST_NAME).read_bytes(), MANIFEST_NAME)
    except (OSError, InputError):
        return False
    return isinstance(record, dict) and {"schema_version", "files", "preprocess"} <= record.keys()


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders in one step where the system can (Linux), else in two with a way back."""
    library = ctypes.CDLL(None, use_errno=True)
    if hasattr(library, "renameat2"):
        if library.renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE) == 0:
            return
        if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):  # these mean that the file system cannot
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(old))
    aside = old.with_name(scratch_name(old))
    os.rename(old, aside)
    try:
        os.rename(new, old)
    except OSError:
        os.rename(aside, old)
        raise
    os.rename(aside, new)
