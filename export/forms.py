"""How attention and linears are written for a target: the form that its runtime runs best.

`benchmarks/suites/forms.py` measures the choice.
"""

from __future__ import annotations

import onnx_ir as ir

from edgevit.targets import target_named

from .fuse_attention import OPSET_OF_ATTENTION, fuse_attention
from .rows import keep_rows
from .settings import ExportSettings

__all__ = ["suit"]


def suit(model: ir.Model, settings: ExportSettings) -> None:
    """Write attention and linears as the target's runtime runs them best, in place.

    A graph that is to be lowered stays as it is: int8 rounds what a linear reads, and needs its bias apart.

    Args:
        model: finished, in fp32.
        settings: of the export.
    """
    if settings.precision != "fp32":
        return
    target = target_named(settings.target)
    if target.attention == "fused-op" and settings.opset_version >= OPSET_OF_ATTENTION:
        fuse_attention(model)
    if target.layout == "rows":
        keep_rows(model)
