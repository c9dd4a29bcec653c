"""Engines beside their bundle, each with its record: written whole, and read only after its hash.

An engine is machine code that its library executes when it loads it. So nothing of one is handed out before the record
was read strictly, names this very bundle, and gives the hash of the bytes. That finds damage and mix-ups; it does not
make the engine of a stranger safe, who could have written the record too.

A record names its engine by content, so that replacing the record is the one step from an old engine to a new one.

Does not know: any library that builds or runs engines, how a device is asked what it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgevit.bundle import GRAPH_NAME, Bundle, device_dir
from edgevit.engine_record import ENGINE_SCHEMA_VERSION, EngineRecord, Library, NoEngine, build_command
from edgevit.errors import InputError
from edgevit.files import atomic_write, cannot_write, reading, sha256
from edgevit.manifest import FileRecord
from edgevit.strict_json import build, encode, parse

__all__ = ["engine_path", "read_engine", "record_path", "write_engine"]

_MAX_RECORD_BYTES = 2**20


def record_path(bundle: Bundle, library: Library, graph: str = GRAPH_NAME) -> Path:
    """Where the record of a graph's engine of a library stands. There is an engine if and only if it is there."""
    return device_dir(bundle) / f"{_stem(library, graph)}.json"


def engine_path(bundle: Bundle, record: EngineRecord, graph: str = GRAPH_NAME) -> Path:
    """Where the engine of a record stands: its name has the beginning of its hash."""
    return device_dir(bundle) / f"{_stem(record.library, graph)}-{record.engine.sha256[:16]}.engine"


def _stem(library: Library, graph: str) -> str:
    """The library alone for a bundle's one graph; for a stage with its name."""
    return library if graph == GRAPH_NAME else f"{library}-{graph.removesuffix('.onnx')}"


def write_engine(bundle: Bundle, engine: bytes, record: EngineRecord, graph: str = GRAPH_NAME) -> Path:
    """Put an engine in its place: the engine first, its record last.

    A kill at any point leaves the old engine with its record, or the new one with its own.

    Args:
        bundle: that it was built from; nothing in it is touched.
        engine: the bytes that the library serialized.
        record: of just these bytes.
        graph: the file of the bundle that it was built from.

    Returns:
        The engine's file.

    Raises:
        InputError: the folder beside the bundle cannot be written; the old engine stays as it was.
    """
    assert record.engine == FileRecord(sha256=sha256(engine), size_bytes=len(engine)), "the record of another engine"
    assert record.bundle_digest == bundle.digest, "the record of another bundle's engine"
    path, where = engine_path(bundle, record, graph), record_path(bundle, record.library, graph)
    before = _engine_before(bundle, record.library, graph)
    try:
        where.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(where.parent, error) from error
    try:
        atomic_write(path, engine)
        atomic_write(where, encode(record))
    except BaseException:
        if path != _engine_before(
            bundle, record.library, graph
        ):  # asked again: an interrupt may come after the last step
            path.unlink(missing_ok=True)
        with suppress(OSError):  # it holds something else
            where.parent.rmdir()
        raise
    if before is not None and before != path:
        before.unlink(missing_ok=True)
    return path


def read_engine(bundle: Bundle, library: Library, graph: str = GRAPH_NAME) -> tuple[EngineRecord, Callable[[], bytes]]:
    """Find the engine of a bundle's graph.

    Args:
        bundle: that it was built from.
        library: that is to run it.
        graph: the file of the bundle that it was built from.

    Returns:
        Its record, and what gives its bytes after checking their hash (a NoEngine if it differs). Where the engine was
        built again meanwhile, for the same library and card, it gives the new one.

    Raises:
        NoEngine: there is none, its record is damaged or of a newer schema, or it was built from another bundle.
    """
    where = record_path(bundle, library, graph)
    again = f"run: {build_command(bundle, library)}"
    if not where.exists():
        of = "" if graph == GRAPH_NAME else f" for {graph}"
        raise NoEngine(f"{bundle.path}: has no engine of {library}{of}; {again}")
    record = _read_record(where, again)
    if record.library != library:
        raise NoEngine(f"{where}: is of an engine of {record.library}, wanted {library}; {again}")
    if record.bundle_digest != bundle.digest or record.onnx_sha256 != bundle.manifest.files[graph].sha256:
        raise NoEngine(f"{where}: its engine was built from another bundle than {bundle.path}; {again}")
    return record, partial(_read_current, bundle, record, graph, again)


def _read_record(where: Path, again: str) -> EngineRecord:
    data = _read(where, _MAX_RECORD_BYTES, again)
    if len(data) > _MAX_RECORD_BYTES:
        raise NoEngine(f"{where}: is more than {_MAX_RECORD_BYTES} bytes, no record of an engine; {again}")
    try:
        values = parse(data, str(where))
        version = values.get("schema_version") if isinstance(values, dict) else None
        if type(version) is int and version != ENGINE_SCHEMA_VERSION:
            raise InputError(f"{where}: schema version {version}, this edgevit reads {ENGINE_SCHEMA_VERSION}")
        return build(EngineRecord, values, str(where))
    except InputError as error:
        raise NoEngine(f"{error}; {again}") from error


def _read_current(bundle: Bundle, record: EngineRecord, graph: str, again: str) -> bytes:
    try:
        return _read_checked(engine_path(bundle, record, graph), record.engine, again)
    except NoEngine as gone:
        now, _ = read_engine(bundle, record.library, graph)
        if now.engine == record.engine:
            raise
        built = replace(now, engine=record.engine, precision=record.precision, build_seconds=record.build_seconds)
        if built != record:  # whether the old one fits was judged already, and says nothing of this one
            raise InputError(f"{bundle.path}: another engine was built for it meanwhile; load it again") from gone
        return _read_checked(engine_path(bundle, now, graph), now.engine, again)


def _read_checked(path: Path, wanted: FileRecord, again: str) -> bytes:
    data = _read(path, wanted.size_bytes, again)
    if len(data) != wanted.size_bytes or sha256(data) != wanted.sha256:
        raise NoEngine(f"{path}: is not the engine that its record describes, so it is not loaded; {again}")
    return data


def _read(path: Path, size_bytes: int, again: str) -> bytes:
    """The file, and one byte more than the size if it is longer; a link in its place is not followed.

    What is asked for stands in a record that may be damaged, so that no memory is taken for more than there is.
    """
    try:
        with reading(path, again), open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            return file.read(min(size_bytes, os.fstat(file.fileno()).st_size) + 1)
    except InputError as error:
        raise NoEngine(str(error)) from error


def _engine_before(bundle: Bundle, library: Library, graph: str) -> Path | None:
    """The engine that the record in place names, if that can be told."""
    try:
        return engine_path(bundle, _read_record(record_path(bundle, library, graph), ""), graph)
    except InputError:
        return None
