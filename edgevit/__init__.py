"""edgevit: recursive and token-merging Vision Transformers, exported, verified, measured and run at the edge.

`import edgevit` costs next to nothing: the names of `edgevit.api` are offered here and loaded when first asked for,
so that a program that only runs bundles never imports torch or onnx.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgevit.api import (
        FolderEvaluation,
        check_loadgen,
        evaluate,
        export_model,
        load,
        measure,
        train_model,
        verify_bundle,
    )

# A list of its own and not read from edgevit.api: `from edgevit import spec` asks __getattr__ for "spec" first, and
# loading the API to answer "no" would import the API in the middle of a module that the API needs.
__all__ = [
    "Calibration",
    "EdgevitError",
    "FolderEvaluation",
    "__version__",
    "calibrate",
    "check_loadgen",
    "evaluate",
    "export_model",
    "load",
    "measure",
    "train_model",
    "verify_bundle",
]

# pyproject.toml reads the version from this line, so that wheel, editable install and any copy of the tree agree.
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """A name of `edgevit.api`, loaded at first use and kept.

    Raises:
        AttributeError: edgevit offers no such name.
    """
    if name not in __all__:
        raise AttributeError(f"module 'edgevit' has no attribute '{name}'")
    value: object = getattr(import_module("edgevit.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
