"""edgevit: recursive and token-merging Vision Transformers, exported, verified, measured and run at the edge.

`import edgevit` costs next to nothing: the names of `edgevit.api` are offered here and loaded when first asked for,
so that a program that only runs bundles never imports torch or onnx.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgevit.api import *  # noqa: F403 - what __getattr__ gives at run time, for type checkers and editors

# pyproject.toml reads the version from this line, so that wheel, editable install and any copy of the tree agree.
__version__ = "0.1.0"


def _api_names() -> tuple[str, ...]:
    # Not `from edgevit import api`, which asks this module's __getattr__ for "api" first and would not end.
    # While edgevit.api is itself being imported it has no __all__ yet; then there is nothing to offer.
    return tuple(getattr(import_module("edgevit.api"), "__all__", ()))


def __getattr__(name: str) -> object:
    """A public name of `edgevit.api`, loaded at first use and kept.

    Raises:
        AttributeError: the API has no such name.
    """
    # Private and dunder names are what import machinery and debuggers ask for: never a reason to load the API.
    if not name.startswith("_") and name != "api" and name in _api_names():
        value: object = getattr(import_module("edgevit.api"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'edgevit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_api_names()})
