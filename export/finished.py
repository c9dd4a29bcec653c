"""What a graph is when it leaves the exporter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgevit.bundle import ENTER_NAME, GRAPH_NAME, rest_name
from edgevit.spec import Precision, ReductionSpec, RoutingSpec, TensorSpec

from .adaptive import Ladders
from .cost import Cost

__all__ = ["Graph"]


@dataclass(frozen=True)
class Graph:
    """A finished graph.

    Attributes:
        onnx: the file's bytes; of a graph in stages those of the first.
        input: `image`, B x 3 x H x W float32.
        outputs: in order.
        routing: how it routes tokens; None where there is nothing to route.
        reduction: how it merges or drops them; None where every patch stays one.
        precision: read back from it.
        cost: counted from it; of an adaptive graph the worst case.
        ladders: of an adaptive graph, its rungs.
        rests: of a graph in stages the bytes of what follows the first, by budget; empty for one graph.
    """

    onnx: bytes
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    routing: RoutingSpec | None
    reduction: ReductionSpec | None
    precision: Precision
    cost: Cost
    ladders: Ladders | None = None
    rests: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, bytes]:
        """Its files by their names in a bundle."""
        if not self.rests:
            return {GRAPH_NAME: self.onnx}
        return {ENTER_NAME: self.onnx} | {rest_name(budget): onnx for budget, onnx in self.rests.items()}
