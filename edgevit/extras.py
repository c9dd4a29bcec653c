"""The extras of the distribution: which libraries each brings, and the one line for a library that is not there.

Does not know: what the libraries are used for. Nothing here imports one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edgevit.errors import InputError, MissingExtra

__all__ = ["EXTRAS", "Extra", "installed_version", "needs"]


@dataclass(frozen=True, kw_only=True)
class Extra:
    """One extra of the distribution.

    Attributes:
        name: as in `pip install 'edgevit[name]'`.
        gives: what it makes possible.
        libraries: distributions it brings, with the names they are imported by.
        since: the oldest Python it installs on.
    """

    name: str
    gives: str
    libraries: dict[str, str]
    since: tuple[int, int] = (3, 10)


_TORCH = {"torch": "torch", "safetensors": "safetensors"}
_ONNX = {"onnx": "onnx", "onnx-ir": "onnx_ir", "onnxscript": "onnxscript", "onnxsim": "onnxsim"}

_CUDA = {"cuda-bindings": "cuda"}

EXTRAS: tuple[Extra, ...] = (
    Extra(name="export", gives="export of models", libraries=_TORCH | _ONNX, since=(3, 11)),
    Extra(name="train", gives="training and evaluation of checkpoints", libraries=_TORCH, since=(3, 11)),
    Extra(name="zoo", gives="stock backbones", libraries={"timm": "timm"}, since=(3, 11)),
    Extra(name="cpu", gives="ONNX Runtime", libraries={"onnxruntime": "onnxruntime"}),
    Extra(name="tensorrt", gives="TensorRT", libraries={"tensorrt": "tensorrt"} | _CUDA),
    Extra(name="tensorrt-rtx", gives="TensorRT-RTX", libraries={"tensorrt-rtx": "tensorrt_rtx"} | _CUDA),
    Extra(name="openvino", gives="OpenVINO", libraries={"openvino": "openvino"}),
    Extra(
        name="bench",
        gives="the page of benchmarks, GPU telemetry and MLPerf's loadgen",
        libraries={"plotly": "plotly", "nvidia-ml-py": "pynvml", "mlcommons-loadgen": "mlperf_loadgen"},
    ),
)


def installed_version(distribution: str) -> str | None:
    """The version that is installed, None if it is not."""
    from importlib import metadata  # a quarter of what edgevit takes to import, and few ask

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@contextmanager
def needs(name: str) -> Iterator[None]:
    """Around imports of what an extra brings: its absence becomes one line that says what to install.

    Raises:
        MissingExtra: a library of the extra is not installed.
        InputError: the extra does not exist on this Python.
    """
    extra = next(extra for extra in EXTRAS if extra.name == name)
    if sys.version_info < extra.since:
        here, since = (".".join(map(str, version)) for version in (sys.version_info[:2], extra.since))
        raise InputError(
            f"{extra.gives} needs Python {since} or later and this is {here}; do it elsewhere and copy what comes out"
        )
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in extra.libraries.values():
            raise
        raise MissingExtra(library, name) from error
