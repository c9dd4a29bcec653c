"""Files that are either whole or not there: written beside their place, forced to the disk, then renamed into it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgevit.errors import InputError

__all__ = ["atomic_write", "cannot_write", "reading", "scratch_name", "sha256", "sync_folder", "write_synced"]


def atomic_write(path: str | Path, data: bytes) -> None:
    """Write a file in one step: a reader, or a kill at any point, finds the old bytes or the new ones.

    Args:
        path: the file; its folder must exist.
        data: its whole content.

    Raises:
        InputError: the file cannot be written (no such folder, no permission, disk full); the old one is untouched.
    """
    path = Path(path)
    scratch = path.with_name(scratch_name(path))
    try:
        try:
            write_synced(scratch, data)
            os.replace(scratch, path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def sha256(data: bytes) -> str:
    """SHA-256 of the bytes, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def scratch_name(path: Path) -> str:
    """A hidden name for what will be renamed to `path`, different each time."""
    return f".{path.name}.{os.urandom(4).hex()}.partial"


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until the disk has it.

    Raises:
        OSError: it exists already, or cannot be written.
    """
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder: a rename is only lasting after that.

    Raises:
        OSError: the folder cannot be opened.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def reading(path: Path, next_step: str) -> Iterator[None]:
    """Turn what the system says against reading a file or a folder into one line.

    Args:
        path: what is read.
        next_step: the end of the line: `wanted an image file`.

    Raises:
        InputError: an OSError came out of the block.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); {next_step}") from error


def cannot_write(path: Path, error: OSError) -> InputError:
    """The one line for a write that the system refused."""
    reason = error.strerror or str(error)
    return InputError(f"{path}: cannot be written ({reason}); make room there or write elsewhere")
