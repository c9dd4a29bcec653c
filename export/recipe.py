"""How a graph becomes one of a lower precision: what was measured of it, and what has to stay higher.

The same recipe does for every graph that differs in its rungs alone, as those of a ladder do: what it knows goes by
names without the rung.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from edgevit.precision_record import Island
from edgevit.spec import Precision
from edgevit.targets import Runtime

from .cost import part_of_nodes
from .half import Half, lower
from .islands import islands
from .quantize import quantize_linears
from .ranges import Ranges

__all__ = ["Made", "Recipe"]

_FLOAT_REST: tuple[Runtime, ...] = ("ort", "ov")  # where the rest of an int8 graph stays in fp32


@dataclass(frozen=True)
class Made:
    """A graph in a lower precision, with what was left out.

    Attributes:
        model: the graph.
        islands: nodes that stay in fp32 where the rest is half.
        float_linears: linears that stay in float where the others are int8, `name: reason`.
    """

    model: ir.Model
    islands: tuple[Island, ...]
    float_linears: tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """What a lower precision goes by.

    Attributes:
        precision: `fp16`, `bf16` or `int8`.
        runtime: which the graph is for: with int8 the rest is fp32 on `ort` and `ov`, fp16 on the others.
        ranges: of the fp32 graph's values, of one with branches those of `fullest`.
        parts: of the model that stay in fp32.
        linears: that stay in float, by their names without a rung.
    """

    precision: Precision
    runtime: Runtime
    ranges: Ranges
    parts: frozenset[str] = frozenset()
    linears: frozenset[str] = frozenset()

    @property
    def has_half(self) -> bool:
        """Whether anything becomes half."""
        return self.precision != "int8" or self.runtime not in _FLOAT_REST

    def made(self, model: ir.Model) -> Made:
        """A finished fp32 graph in this precision; the graph itself is not changed.

        Raises:
            InputError: halves in a graph with branches, or one that the ranges are not of.
            CheckFailed: a weight does not fit into fp16.
        """
        copy = ir.from_proto(ir.to_proto(model))
        floating: tuple[str, ...] = ()
        if self.precision == "int8":
            # An x86 CPU without VNNI overflows on 8 bits; where there is VNNI, 7 cost neither time nor answers.
            reduced = self.runtime == "ort"
            floating = quantize_linears(copy, self.ranges, keep=self.linears, reduce_range=reduced).kept
        if not self.has_half:
            return Made(copy, (), floating)
        half: Half = "bf16" if self.precision == "bf16" else "fp16"
        kept = list(islands(copy, self.ranges.largest, half))
        known = {island.node for island in kept}
        nodes = list(copy.graph)
        for node, part in zip(nodes, part_of_nodes(nodes), strict=True):
            if part in self.parts and node.name not in known:
                kept.append(Island(str(node.name), f"{part} drifted too far in {half}"))
        lower(copy, half, [island.node for island in kept])
        return Made(copy, tuple(kept), floating)

    def keeping(self, *, part: str | None = None, linear: str | None = None) -> Recipe:
        """The recipe that leaves one more part, or one more linear, in the higher precision."""
        parts, linears = ({name} if name is not None else set() for name in (part, linear))
        return replace(self, parts=self.parts | parts, linears=self.linears | linears)
