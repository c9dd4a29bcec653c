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

    Args:
        model: finished, in fp32. Its linears stay as they are if it is to be lowered: int8 needs the bias apart.
        settings: of the export.
    """
    target = target_named(settings.target)
    if target.attention == "fused-op" and settings.opset_version >= OPSET_OF_ATTENTION:
        fuse_attention(model)
    if target.layout == "rows" and settings.precision == "fp32":
        keep_rows(model)
