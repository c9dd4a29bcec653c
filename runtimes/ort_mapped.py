"""The weights of a bundle as ONNX Runtime multiplies by them, kept beside it and mapped by every session.

A file that is mapped costs its pages once, for all sessions and processes, and the system may drop them when it needs
room. What stands in it fits one build of ONNX Runtime on one kind of processor, so a record says which, and for which
bundle, with the hashes of the two files; anything else there is as good as nothing, and is made anew. The hashes find
damage and mix-ups; whoever may write in the folder could write a record too.

Where the folder cannot be written the bundle runs as if this were not here.

Does not know: ONNX Runtime's sessions, what was packed or how (ort_packed.py).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgevit.bundle import GRAPH_NAME, Bundle, device_dir
from edgevit.errors import InputError
from edgevit.files import atomic_write, cannot_write, reading, sha256
from edgevit.manifest import FileRecord
from edgevit.strict_json import decode, encode

from .ort_packed import Packed, without_weights

__all__ = ["Mapped", "MappedWeights"]

_SCHEMA_VERSION = 1
_RECORD_NAME = "ort-weights.json"
_MAX_RECORD_BYTES = 2**16
_AGAIN = "it is made again where the folder can be written"


@dataclass(frozen=True)
class Mapped:
    """A graph whose weights stand in a file.

    Attributes:
        graph: serialized, its hash checked.
        folder: where the files are that it names; their hashes were checked.
    """

    graph: bytes
    folder: Path


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What two files beside a bundle are, and for whom."""

    schema_version: int
    bundle_digest: str
    onnx_sha256: str
    library: str
    processor: str
    graph: FileRecord
    weights: FileRecord


class MappedWeights:
    """The graph and the weights that one build of ONNX Runtime made of a bundle, in the folder beside it.

    Args:
        bundle: whose graph it is.
        processor: what its kernels may have been chosen by; this machine's by default.
    """

    def __init__(self, bundle: Bundle, processor: str | None = None) -> None:
        self._bundle = bundle
        self._processor = _this_processor() if processor is None else processor
        self._folder = device_dir(bundle)

    @property
    def writable(self) -> bool:
        """Whether the folder can be written, as far as the system says without trying."""
        folder = self._folder if self._folder.exists() else self._folder.parent
        return os.access(folder, os.W_OK | os.X_OK)

    def find(self, library: str) -> Mapped | None:
        """What is there for this bundle and processor, after its hashes were checked; None if nothing is.

        Args:
            library: the build of ONNX Runtime, in its own words; another one's files are not used.
        """
        try:
            record = self._record(library)
            if record is None:
                return None
            graph = _checked(self._folder / _graph_name(record.graph), record.graph)
            _check_mapped(self._folder / _weights_name(record.weights), record.weights)
            return Mapped(graph, self._folder)
        except InputError:  # damaged, or replaced this very moment: made again, as if it were not there
            return None

    def store(self, library: str, model: bytes, packed: Packed) -> Mapped:
        """Write both files, their record last, in the place of what was there.

        Args:
            library: the build of ONNX Runtime that packed them.
            model: the bundle's graph.
            packed: what ONNX Runtime packed of its weights.

        Raises:
            InputError: the folder cannot be written, or there is nothing to map; what was there is untouched.
        """
        # The graph names the file, which has its hash in its name: so it is taken apart once more, with that name.
        _, weights = without_weights(model, packed, "")
        if not weights:
            raise InputError("the graph has no weights of a size that is worth a file")
        weights_record = FileRecord(sha256=sha256(weights), size_bytes=len(weights))
        graph, _ = without_weights(model, packed, _weights_name(weights_record))
        record = _Record(
            schema_version=_SCHEMA_VERSION,
            bundle_digest=self._bundle.digest,
            onnx_sha256=self._onnx_sha256(),
            library=library,
            processor=self._processor,
            graph=FileRecord(sha256=sha256(graph), size_bytes=len(graph)),
            weights=weights_record,
        )
        files = {_weights_name(weights_record): weights, _graph_name(record.graph): graph, _RECORD_NAME: encode(record)}
        before = self._files()
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(self._folder, error) from error
        try:
            for name, data in files.items():
                atomic_write(self._folder / name, data)
        except BaseException:
            for name in files.keys() - before:
                (self._folder / name).unlink(missing_ok=True)
            with suppress(OSError):  # it holds something else
                self._folder.rmdir()
            raise
        for name in before - files.keys():
            (self._folder / name).unlink(missing_ok=True)
        return Mapped(graph, self._folder)

    def remove(self) -> None:
        """Delete what is there; what cannot be deleted stays."""
        with suppress(OSError):
            for name in self._files():
                (self._folder / name).unlink(missing_ok=True)

    def _files(self) -> set[str]:
        """Names of all files here that this class writes."""
        if not self._folder.is_dir():
            return set()
        return {path.name for path in self._folder.glob("ort-weights*") if path.is_file()}

    def _record(self, library: str) -> _Record | None:
        """The record, if it is there and of this bundle, library and processor.

        Raises:
            InputError: it is damaged.
        """
        where = self._folder / _RECORD_NAME
        if not where.exists():
            return None
        record = decode(_Record, _read(where, _MAX_RECORD_BYTES), str(where))
        wanted = (_SCHEMA_VERSION, self._bundle.digest, self._onnx_sha256(), library, self._processor)
        got = (record.schema_version, record.bundle_digest, record.onnx_sha256, record.library, record.processor)
        return record if got == wanted else None

    def _onnx_sha256(self) -> str:
        return self._bundle.manifest.files[GRAPH_NAME].sha256


def _graph_name(file: FileRecord) -> str:
    return f"ort-weights-{file.sha256[:16]}.onnx"


def _weights_name(file: FileRecord) -> str:
    return f"ort-weights-{file.sha256[:16]}.bin"


def _this_processor() -> str:
    """What tells one processor's instruction sets from another's, as a hash: library kernels are chosen by them."""
    described = [platform.machine()]
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        described.append(platform.processor())  # asked last: on Linux it starts a process
    else:
        wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part", "CPU variant")
        described += [line for line in first.splitlines() if line.startswith(wanted)]
    return sha256("\n".join(described).encode())


def _checked(path: Path, wanted: FileRecord) -> bytes:
    data = _read(path, wanted.size_bytes)
    if len(data) != wanted.size_bytes or sha256(data) != wanted.sha256:
        raise InputError(f"{path}: is not the file that its record describes; {_AGAIN}")
    return data


def _read(path: Path, size_bytes: int) -> bytes:
    with reading(path, _AGAIN), open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read(size_bytes + 1)


def _check_mapped(path: Path, wanted: FileRecord) -> None:
    """Check a file's hash through the pages that a session will map, without a copy of them.

    Raises:
        InputError: it is not the file that was written.
    """
    with reading(path, _AGAIN), open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == wanted.size_bytes:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
                if hashlib.sha256(pages).hexdigest() == wanted.sha256:
                    return
    raise InputError(f"{path}: is not the file that its record describes; {_AGAIN}")
