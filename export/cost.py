"""What one run of a graph computes and moves, counted from the graph itself."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from edgevit.spec import BlockCost

from .products import Product, is_uncounted, product_of, shape_of

__all__ = ["Cost", "count", "part_of_nodes"]

# Modules that hold blocks by number. What else has numbers, as the layers of a stem, is part of a block.
_STACKS = {"blocks", "layers", "layer", "stages", "transformer", "features", "network"}
_REDUCERS = "reducers"
_EARLY_MERGE = "merge"  # of a recursive model, before its first step
_WRAPPERS = ("model.", "backbone.")
_OUTSIDE = "graph"  # the name of a node of no module, such as attention that a walker over the blocks computes itself
_NUMBER = re.compile(r"\d+(\[\d+\])?")

# They give another view of what is there, or nothing that is computed.
_VIEWS = {"Constant", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze"}


@dataclass(frozen=True)
class Cost:
    """Arithmetic and storage of a graph at its own batch size.

    Attributes:
        flops: of matrix products and convolutions, two for each multiply-add; the rest of a transformer is under
            two per cent of it.
        flops_by_module: the same, by the blocks and other parts of the model.
        weight_bytes: of all initializers, each stored once.
        nodes: operators.
        uncounted: kinds of operators that multiply and are not in `flops`; empty for edgevit's own models.
        blocks: the parts of the model in the order of the graph.
    """

    flops: int
    flops_by_module: dict[str, int]
    weight_bytes: int
    nodes: int
    uncounted: tuple[str, ...]
    blocks: tuple[BlockCost, ...]


def count(model: ir.Model) -> Cost:
    """Count a graph whose shapes were written in by `with_shapes` and whose nodes are named by `name_nodes`."""
    nodes = list(model.graph.all_nodes())
    parts: dict[str, _Part] = {}
    batch = shape_of(model.graph.inputs[0])[0] if model.graph.inputs else 1
    scale = _Scale(batch)
    names = part_of_nodes(nodes)
    for node, name in zip(nodes, names, strict=True):
        part = parts.setdefault(name, _Part())
        product = product_of(node)
        if product is not None:
            part.flops += product.flops
            part.full_flops += scale.full(name, product)
            part.rows = product.rows_out or part.rows
        part.weights |= {
            value: value.const_value.nbytes
            for value in node.inputs
            if value is not None and value.const_value is not None
        }
        if node.op_type not in _VIEWS:
            part.activation_bytes += sum(_bytes(value) for value in node.outputs)
    weights = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    return Cost(
        flops=sum(part.flops for part in parts.values()),
        flops_by_module={name: part.flops for name, part in parts.items() if part.flops},
        weight_bytes=weights,
        nodes=len(model.graph),
        uncounted=tuple(sorted({node.op_type for node in nodes if is_uncounted(node)})),
        blocks=tuple(part.cost(name, batch) for name, part in parts.items() if part.flops),
    )


def part_of_nodes(nodes: Sequence[ir.Node]) -> list[str]:
    """The part of the model that each node of a graph belongs to, as in `Cost.blocks`: `blocks.3[2]`, `head`."""
    return _part_names([_path(node) for node in nodes])


@dataclass
class _Part:
    flops: int = 0
    full_flops: float = 0.0
    activation_bytes: int = 0
    rows: int = 0
    weights: dict[ir.Value, int] = field(default_factory=dict)

    def cost(self, name: str, batch: int) -> BlockCost:
        tokens = max(self.rows // batch, 1) if self.rows else None
        full = round(self.full_flops)
        return BlockCost(
            name=name,
            flops=self.flops,
            full_flops=full,
            weight_bytes=sum(self.weights.values()),
            activation_bytes=self.activation_bytes,
            tokens=tokens,
        )


class _Scale:
    """How many tokens there would be for each one that there is, followed through the graph.

    Inside a stack of blocks the number of rows changes by merging, dropping and routing alone; between two stacks it
    changes by the model's own downsampling. A stem that gives more than the first block takes was
    followed by a merge; CLS, which no stem gives, is then left out of what there would be.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._factor = 1.0
        self._rows = 0  # of the product with a weight before
        self._stack = ""

    def full(self, name: str, product: Product) -> float:
        """The FLOPs of a product if every token had come to it."""
        if name.split(".")[0] in (_REDUCERS, _EARLY_MERGE):
            return 0
        stack = _stack(name)
        if stack is None:
            if not self._stack:
                self._rows = product.rows_out or self._rows
            return product.flops
        if not product.rows_in:
            # Of attention in windows, or linear in the tokens, only one side or the number of products would grow.
            among_all = sum(side == self._rows // self._batch for side in product.sides)
            return product.flops * self._factor ** (2 if among_all >= 2 else 1)
        if product.rows_in <= self._batch:  # a branch over what was pooled, as squeeze-and-excite
            return product.flops
        entered = stack != self._stack
        if not entered or (not self._stack and 1 < product.rows_in < self._rows):
            self._factor *= self._rows / product.rows_in
        self._stack, self._rows = stack, product.rows_out
        return product.flops * self._factor


def _path(node: ir.Node) -> list[str]:
    """`blocks.0[2].attention.qkv/MatMul` as its modules, without those that only hold the model."""
    path = (node.name or "").split("/")[0]
    while path.startswith(_WRAPPERS):
        path = path.partition(".")[2]
    return path.split(".")


def _part_names(paths: list[list[str]]) -> list[str]:
    """The part that each path belongs to. What lies beside the blocks of a stage goes by one name more."""
    ends = [_block_end(path) for path in paths]
    blocks = {tuple(path[:end]) for path, end in zip(paths, ends, strict=True) if end}
    holders = {block[:length] for block in blocks for length in range(1, len(block))}
    names: list[str] = []
    for path, end in zip(paths, ends, strict=True):
        length = end or (2 if path[0] == _REDUCERS else 1)
        outside = path == [_OUTSIDE] and bool(names)
        names.append(names[-1] if outside else ".".join(path[: length + (tuple(path[:end]) in holders)]))
    return names


def _block_end(path: list[str]) -> int:
    """How many modules of a path lead to its block; 0 outside of blocks."""
    end, inside = 0, False
    for index, module in enumerate(path):
        if _NUMBER.fullmatch(module):
            if inside:
                end = index + 1
        elif end and module not in _STACKS:
            break
        else:
            inside = module in _STACKS
    return end


def _stack(name: str) -> str | None:
    """The stack that a part is in: `layers.0.blocks` for `layers.0.blocks.1`; None outside of blocks."""
    path = name.split(".")
    end = _block_end(path)
    if not end:
        return None
    if end < len(path):
        return name
    while _NUMBER.fullmatch(path[-1]):
        path.pop()
    return ".".join(path)


def _bytes(value: ir.Value) -> int:
    if value.shape is None or value.dtype is None or not value.shape.is_static():
        return 0
    return math.prod(shape_of(value)) * math.ceil(value.dtype.itemsize)
