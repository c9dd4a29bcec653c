"""One rung of an adaptive step: select its tokens, run the step over them, put them back. Shapes are constants.

The graph form of `edgevit.models.adaptive.step_in_rung`. CLS ranks first, so that it is selected, blended and put back
as one more token.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgevit.models.tokens import HIDDEN

from .adaptive_parts import StepBody

__all__ = ["Builder", "build_rung"]

_PASS = re.compile(r"\[\d+\]")


class Builder:
    """Collects the nodes and constants of a graph or of a branch.

    A branch has constants of its own, because shapes are inferred in a branch without a look at the values outside.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.nodes: list[ir.Node] = []
        self._seen: Counter[str] = Counter()
        self._constants: dict[tuple[object, ...], ir.Value] = {}

    @property
    def constants(self) -> tuple[ir.Value, ...]:
        return tuple(self._constants.values())

    def op(self, op_type: str, *inputs: ir.Value, outputs: int = 1, **attributes: Any) -> Any:
        """The output of a new node, or a list of its outputs if there are several."""
        node = ir.node(op_type, list(inputs), attributes, num_outputs=outputs)
        self.append(node, f"{self.place}/{op_type}_{len(self.nodes)}")
        return node.outputs[0] if outputs == 1 else list(node.outputs)

    def append(self, node: ir.Node, name: str) -> None:
        self._seen[name] += 1
        node.name = name if self._seen[name] == 1 else f"{name}_{self._seen[name] - 1}"
        for index, value in enumerate(node.outputs):
            value.name = f"{node.name}:{index}"
        self.nodes.append(node)

    def constant(self, numbers: Any, dtype: Any = np.int64) -> ir.Value:
        """An initializer of these numbers, the same for equal ones."""
        array = np.array(numbers, dtype)
        key = (array.dtype, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"{self.place}/constant_{len(self._constants)}"
            self._constants[key] = ir.Value(
                name=name,
                shape=ir.Shape(array.shape),
                type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
                const_value=ir.tensor(array, name=name),
            )
        return self._constants[key]

    def copy(self, body: StepBody, tokens: ir.Value, hidden: ir.Value, suffix: str) -> ir.Value:
        """The output of a copy of a step; its weights are not copied, only what shapes are made of."""

        def outside(value: ir.Value) -> ir.Value:
            made_of = value.const_value
            if made_of is None or not made_of.dtype.is_integer():
                return value
            return self.constant(made_of.numpy(), made_of.numpy().dtype)

        of: dict[ir.Value, ir.Value] = {body.tokens: tokens, body.hidden: hidden}
        for node in body.nodes:
            copied = ir.Node(
                node.domain,
                node.op_type,
                [value if value is None else of.get(value) or outside(value) for value in node.inputs],
                node.attributes,
                num_outputs=len(node.outputs),
                version=node.version,
            )
            # The pass a block is in, which is that of the step, whichever step it was traced for.
            name = _PASS.sub(f"[{body.step}]", str(node.name), count=1)
            self.append(copied, f"{name}{suffix}")
            of.update(zip(node.outputs, copied.outputs, strict=True))
        return of[body.after]


def build_rung(
    to: Builder, body: StepBody, x: ir.Value, ranks: ir.Value, shape: Sequence[int], k: int, *, cls_alone: bool
) -> ir.Value:
    """Append one rung to a branch.

    Args:
        to: the branch.
        body: the step.
        x: B x (1 + N) x D.
        ranks: B x (1 + N), as `edgevit.models.adaptive` ranks them; at most `k` patches active.
        shape: of x.
        k: patches of the rung, 0 to N.
        cls_alone: whether nobody reads the patches any more.

    Returns:
        x after the step; CLS alone, B x 1 x D, with `cls_alone`.
    """
    batch, length, width = shape
    best, index, before = ranks, None, x
    if 0 < k < length - 1:
        best, index = to.op("TopK", ranks, to.constant([1 + k]), outputs=2, axis=1, largest=1, sorted=1)
        before = _rows(to, x, index, batch, length, width)
    elif k == 0:
        before = _first(to, x, 0, 1)
    if k == 0:
        hidden = to.constant(np.zeros((batch, 1, 1, 1)), np.float32)
    else:
        nothing, unseen = to.constant(0.0, np.float32), to.constant(HIDDEN, np.float32)
        mask = to.op("Where", to.op("Less", best, nothing), unseen, nothing)
        hidden = to.op("Unsqueeze", mask, to.constant([1, 2]))
    after = to.copy(body, before, hidden, f"@{k}")
    if k == 0:
        return after if cls_alone else to.op("Concat", after, _first(to, x, 1, length), axis=1)
    if cls_alone:
        return _first(to, after, 0, 1)
    gate = to.op("Clip", best, nothing, to.constant(1.0, np.float32))
    gate = to.op("Unsqueeze", gate, to.constant([2]))
    updated = to.op("Add", before, to.op("Mul", gate, to.op("Sub", after, before)))
    if index is None:
        return updated
    # Only a map of row numbers is scattered; the channels move in one row lookup.
    rows = to.constant(np.tile(np.arange(length), (batch, 1)))
    replaced = to.constant(np.tile(np.arange(length, length + 1 + k), (batch, 1)))
    source = to.op("ScatterElements", rows, index, replaced, axis=1)
    return _rows(to, to.op("Concat", x, updated, axis=1), source, batch, length + 1 + k, width)


def _first(to: Builder, x: ir.Value, start: int, end: int) -> ir.Value:
    """Tokens `start` to `end` of B x L x D."""
    value: ir.Value = to.op("Slice", x, to.constant([start]), to.constant([end]), to.constant([1]))
    return value


def _rows(to: Builder, x: ir.Value, index: ir.Value, batch: int, length: int, width: int) -> ir.Value:
    """The rows of B x `length` x D at B x K positions, in one lookup of whole rows; see `tokens.gather`."""
    if batch > 1:
        index = to.op("Add", index, to.constant(np.arange(0, batch * length, length)[:, None]))
    flat = to.op("Reshape", x, to.constant([batch * length, width]))
    value: ir.Value = to.op("Gather", flat, index, axis=0)
    return value
