"""The kernels of a finished engine: from the list that the builder logs, or from the engine's inspector.

Both are asked for with detailed profiling. TensorRT-RTX logs the list without a GPU, where an inspector cannot be had.
Runs on Python 3.10, where a Jetson builds.

Does not know: how an engine is built.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgevit.errors import CheckFailed
from edgevit.spec import Precision

__all__ = ["EngineKernels", "kernels_of_inspector", "kernels_of_log", "require_kernels"]

# TensorRT-RTX and TensorRT 11 say `Half`, an inspector of TensorRT 10 `Row major linear FP16 format`.
_TYPE = re.compile(r"\b(BFloat16|BF16|Half|FP16|Float|FP32|Int8|INT8|FP8)\b")
_NAMES = {"BFloat16": "bf16", "BF16": "bf16", "Half": "fp16", "FP16": "fp16", "Float": "fp32", "FP32": "fp32",
          "Int8": "int8", "INT8": "int8", "FP8": "fp8"}  # fmt: skip
_LOWEST_FIRST = ("fp8", "int8", "fp16", "bf16", "fp32")
_FUSED_ATTENTION = re.compile(r"(?<![a-z])f?mha(?![a-z])|attention|flash", re.IGNORECASE)


@dataclass(frozen=True)
class EngineKernels:
    """What the kernels of an engine compute in.

    Attributes:
        count: kernels that read or write floating or int8 values.
        shares: share of these by the lowest type they touch.
        attention_fused: those that are a whole attention; None where there is no list of kernels.
    """

    count: int
    shares: Mapping[str, float]
    attention_fused: int | None


def kernels_of_log(lines: Iterable[str]) -> EngineKernels:
    """From the lines `Name: ..., LayerType: ..., Inputs: [...], ..., TacticName: ...` of a builder's log."""
    return _kernels((re.findall(r"Datatype: (\w+)", line), _tactic(line)) for line in lines)


def kernels_of_inspector(text: str) -> EngineKernels:
    """From an inspector's JSON.

    Args:
        text: what `get_engine_information` gives; where profiling was not detailed its layers are names alone.
    """
    layers = json.loads(text).get("Layers", [])
    return _kernels((_types(layer), str(layer.get("TacticName", ""))) for layer in layers if isinstance(layer, dict))


def require_kernels(kernels: EngineKernels, wanted: Precision) -> None:
    """Hold the kernels of a finished engine against what was asked for.

    Raises:
        CheckFailed: a lower precision was asked for and not one kernel works in it.
    """
    if kernels.count > 1 and wanted != "fp32" and wanted not in kernels.shares:
        found = ", ".join(f"{100 * share:.0f} % {name}" for name, share in kernels.shares.items())
        raise CheckFailed(f"asked for {wanted}, but no kernel of the finished engine works in it ({found})")


def _kernels(found: Iterable[tuple[list[str], str]]) -> EngineKernels:
    lowest: Counter[str] = Counter()
    fused, seen = 0, False
    for types, tactic in found:
        seen = True
        names = {_NAMES[name] for text in types for name in _TYPE.findall(text)}
        fused += bool(_FUSED_ATTENTION.search(tactic))
        lowest.update(name for name in _LOWEST_FIRST if name in names and not names & _below(name))
    count = sum(lowest.values())
    shares = {name: number / count for name, number in sorted(lowest.items())}
    return EngineKernels(count, shares, fused if seen else None)


def _below(name: str) -> set[str]:
    return set(_LOWEST_FIRST[: _LOWEST_FIRST.index(name)])


def _types(layer: Mapping[str, Any]) -> list[str]:
    """What an inspector says of the types of a layer's tensors; the key is `Format/Datatype` or `Datatype`."""
    tensors = [tensor for key in ("Inputs", "Constants", "Outputs") for tensor in layer.get(key) or ()]
    return [str(value) for tensor in tensors for key, value in tensor.items() if "Datatype" in key]


def _tactic(line: str) -> str:
    """What runs a logged kernel; its name and metadata only say which layers of the graph it is made of."""
    found = re.search(r"TacticName: ([^,]*)", line)
    return found[1] if found else ""
