"""What a graph is when it leaves the exporter."""

from __future__ import annotations

from dataclasses import dataclass

from edgevit.spec import Precision, ReductionSpec, RoutingSpec, TensorSpec

from .adaptive import Ladders
from .cost import Cost

__all__ = ["Graph"]


@dataclass(frozen=True)
class Graph:
    """A finished graph.

    Attributes:
        onnx: the file's bytes.
        input: `image`, B x 3 x H x W float32.
        outputs: in order.
        routing: how it routes tokens; None where there is nothing to route.
        reduction: how it merges or drops them; None where every patch stays one.
        precision: read back from it.
        cost: counted from it; of an adaptive graph the worst case.
        ladders: of an adaptive graph, its rungs.
    """

    onnx: bytes
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    routing: RoutingSpec | None
    reduction: ReductionSpec | None
    precision: Precision
    cost: Cost
    ladders: Ladders | None = None
