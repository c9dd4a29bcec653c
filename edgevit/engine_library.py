"""Importing the libraries that come with an extra and may be installed and broken, each failure in one line.

Drivers, system packages and wheels of different releases meet in TensorRT and CUDA's bindings, so that finding them
says little: `libnvinfer.so.10: cannot open shared object file` comes only when they are imported.

Does not know: what the libraries are used for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from edgevit.engine_record import Library, extra_of
from edgevit.errors import InputError, MissingExtra

__all__ = ["load_library", "loading"]


@contextmanager
def loading(library: str, extra: str, *parts: str) -> Iterator[None]:
    """Around the import of a library.

    Args:
        library: the name it is imported by.
        extra: the extra of the distribution that brings it.
        parts: names of other modules whose absence means that it is not installed.

    Raises:
        MissingExtra: it is not installed.
        InputError: it is, and does not load.
    """
    try:
        yield
    except Exception as error:  # what a stranger's module does when it is imported may end in anything
        if isinstance(error, ModuleNotFoundError) and error.name in (library, *parts):
            raise MissingExtra(library, extra) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{library} is installed and does not load ({reason}); mend the installation") from error


def load_library(library: Library) -> ModuleType:
    """The module that builds and runs engines.

    Raises:
        MissingExtra: it is not installed, or only its type stubs are.
        InputError: it is installed and does not load.
    """
    with loading(library, extra_of(library)):
        module = importlib.import_module(library)
    if not hasattr(module, "Runtime"):  # type stubs leave a folder of this name, which Python can import
        raise MissingExtra(library, extra_of(library))
    return module
