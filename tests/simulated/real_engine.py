"""Engines of graphs on the GPU that is here, by the product's own build."""

from __future__ import annotations

import importlib

import pytest

from edgevit.engine_record import Library
from edgevit.errors import EdgevitError


def skip_without_device(library: Library) -> None:
    """Skip the test, with the reason, where an engine of the library cannot run."""
    from edgevit.runtimes.device_memory import open_device_memory

    try:
        module = importlib.import_module(library)
    except ImportError:
        pytest.skip(f"{library} is not installed")
    if not hasattr(module, "Runtime"):
        pytest.skip(f"{library} is not installed, only its type stubs are")
    try:
        open_device_memory().close()
    except EdgevitError as error:
        pytest.skip(f"no device for {library}: {error}")


def engine_on_this_device(library: Library, graph: bytes) -> bytes:
    """The engine of a graph, or a skip where none can run."""
    skip_without_device(library)
    from edgevit.export.trt import EngineSettings, build_engine

    return build_engine(graph, importlib.import_module(library), EngineSettings(), None).engine
