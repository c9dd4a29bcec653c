"""Time by layer, mapped back to the module and the recursion step it came from. Its own run: profiling slows a graph.

An exported node is named `module.path/Operator`, and where a module is entered once a recursion step its path carries
the step, `blocks.0[2].attention.qkv/MatMul`; a runtime adds to names when it fuses, and layers it made up have none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from edgevit.probes import LayerTime

__all__ = ["Group", "LayerCost", "Profile", "by_block", "by_operator", "by_step", "layer_costs", "place_of"]

_STEP = re.compile(r"\[(\d+)\]")
# `blocks.0.attention.qkv` belongs to block `blocks.0`, `layers.1.blocks.0.mlp` to `layers.1.blocks.0`; a module outside
# a list of blocks is one by itself. A reduced model holds the plain one as `backbone.model`.
_HELD = re.compile(r"(?:(?:backbone|model)\.)*")
_BLOCK = re.compile(r"[^.]+\.\d+(?:\.(?:blocks\.)?\d+)?")
_BACKBONE = "backbone."
_OUTSIDE = "graph"  # a node of no module


@dataclass(frozen=True)
class LayerCost:
    """One layer of the graph as the runtime runs it.

    Attributes:
        layer: the runtime's name.
        operator: its operator.
        module: path of the module it came from, without the step; empty where the name does not tell.
        step: recursion step, from 0; None outside the recursion.
        median_ns: median over the profiled queries of its time in one query.
    """

    layer: str
    operator: str
    module: str
    step: int | None
    median_ns: float


@dataclass(frozen=True)
class Profile:
    """A candidate's layers, or why there are none.

    Attributes:
        candidate: its name.
        queries: how many were profiled.
        layers: in the order in which they first ran.
        absence: why there are no layers; None if there are.
    """

    candidate: str
    queries: int
    layers: tuple[LayerCost, ...]
    absence: str | None


@dataclass(frozen=True)
class Group:
    """Layers taken together: the sum of their medians, and its share of the whole."""

    name: str
    time_ns: float
    share: float


def place_of(layer: str) -> tuple[str, int | None]:
    """Module path and recursion step in a layer's name; `('', None)` where it tells neither.

    A layer fused from several, joined by ` + `, belongs to the first of them.
    """
    first = layer.partition(" + ")[0]
    path, slash, _ = first.partition("/")
    if not slash or not PurePosixPath(path).name:
        return "", None
    found = _STEP.search(path)
    return _STEP.sub("", path), None if found is None else int(found.group(1))


def layer_costs(times: Sequence[LayerTime]) -> tuple[LayerCost, ...]:
    """Median time of each layer in one query; a layer that one query runs more than once counts its sum there."""
    queries = sorted({time.query for time in times})
    column = {query: index for index, query in enumerate(queries)}
    sums: dict[tuple[str, str], np.ndarray] = {}
    for time in times:
        row = sums.setdefault((time.layer, time.operator), np.zeros(len(queries)))
        row[column[time.query]] += time.duration_ns
    return tuple(
        LayerCost(layer, operator, *place_of(layer), float(np.median(row))) for (layer, operator), row in sums.items()
    )


def by_operator(profile: Profile) -> tuple[Group, ...]:
    """Time by operator, largest first."""
    return _grouped([(layer.operator, layer.median_ns) for layer in profile.layers])


def by_block(profile: Profile) -> tuple[Group, ...]:
    """Time by block of the model, over all steps, largest first; layers without a module are `(runtime)`.

    What goes through the blocks of a reduced model computes their attention itself: such nodes, which belong to no
    module, count for the block that they follow.
    """
    named, opened = [], ""
    for layer in profile.layers:
        block = _block(layer.module)
        if layer.module.startswith(_BACKBONE):
            opened = block
        named.append((opened if opened and block == _OUTSIDE else block, layer.median_ns))
    return _grouped(named)


def by_step(profile: Profile) -> tuple[Group, ...]:
    """Time by recursion step, in order; what is outside the recursion comes last."""
    named = [
        ("outside" if layer.step is None else f"step {layer.step + 1}", layer.median_ns) for layer in profile.layers
    ]
    groups = _grouped(named)
    return tuple(sorted(groups, key=lambda group: (group.name == "outside", len(group.name), group.name)))


def _block(module: str) -> str:
    path = _HELD.sub("", module, count=1)
    found = _BLOCK.match(path)
    if found is not None:
        return found.group()
    return path.partition(".")[0] or "(runtime)"


def _grouped(named: Sequence[tuple[str, float]]) -> tuple[Group, ...]:
    sums: dict[str, float] = {}
    for name, time_ns in named:
        sums[name] = sums.get(name, 0.0) + time_ns
    whole = sum(sums.values()) or 1.0
    groups = [Group(name, time_ns, time_ns / whole) for name, time_ns in sums.items()]
    return tuple(sorted(groups, key=lambda group: -group.time_ns))
