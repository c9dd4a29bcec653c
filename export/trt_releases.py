"""The releases of TensorRT that edgevit's targets run, and which opsets each reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["RELEASES", "RTX_1_7", "TRT_10_3", "TRT_10_13", "TRT_11", "Release", "releases_of"]


@dataclass(frozen=True)
class Release:
    """One release of TensorRT or TensorRT-RTX, or several that take the same graphs.

    Attributes:
        name: as people call it.
        library: the Python module it comes as.
        version: major and minor, the first it speaks for.
        newest_opset: the newest opset it is documented or was seen to read; the oldest is 9 everywhere.
        opset_source: where that stands.
    """

    name: str
    library: Literal["tensorrt", "tensorrt_rtx"]
    version: tuple[int, int]
    newest_opset: int
    opset_source: str


TRT_10_3 = Release(
    "TensorRT 10.3", "tensorrt", (10, 3), 20,
    "public tables of TensorRT 10.0 to 10.8 give opsets 9 to 20; ONNX 1.17 came with 10.6 (onnx-tensorrt Changelog)",
)  # fmt: skip
TRT_10_13 = Release(
    "TensorRT 10.13", "tensorrt", (10, 13), 22,
    "ONNX 1.18 came with 10.11 (onnx-tensorrt Changelog); public tables differ between 22 and 24, the less is taken",
)  # fmt: skip
TRT_11 = Release(
    "TensorRT 11", "tensorrt", (11, 0), 24,
    "onnx-tensorrt operators.md of 10.15: 9 to 24; opset 25 came with 11.5 (NVIDIA/TensorRT releases)",
)  # fmt: skip
RTX_1_7 = Release(
    "TensorRT-RTX 1.7", "tensorrt_rtx", (1, 7), 23, "tried: exports of opsets 18, 20 and 23 parse (docs/zoo.md)"
)

RELEASES = (TRT_10_3, TRT_10_13, TRT_11, RTX_1_7)

_BY_TARGET: dict[str, tuple[Release, ...]] = {
    "jetson-orin": (TRT_10_3,),
    "jetson-orin-jp7": (TRT_11,),
    "jetson-thor": (TRT_10_13, TRT_11),
    "desktop-gpu": (TRT_11,),
    "rtx": (RTX_1_7,),
}


def releases_of(target: str) -> tuple[Release, ...]:
    """The releases that a target may run; none for a target that TensorRT does not serve."""
    return _BY_TARGET.get(target, ())
