"""What a parser of TensorRT said against a graph, each complaint with the node it is about.

Runs on Python 3.10, where a Jetson builds, and needs no ONNX library. Does not know: what is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Complaint", "parse_errors"]

# Descriptions that describe nothing: the text of an assertion that always fails.
_EMPTY = ("", "false", "0")


@dataclass(frozen=True)
class Complaint:
    """One thing that a parser refuses.

    Attributes:
        node: `blocks.3[2].mlp.0/MatMul (MatMul)`, or its operator alone where it has no name; empty for the graph.
        says: why, on one line.
    """

    node: str
    says: str

    def __str__(self) -> str:
        return f"{self.node}: {self.says}" if self.node else self.says


def parse_errors(parser: Any) -> tuple[Complaint, ...]:
    """What a parser that refused a graph complains of, at least one entry.

    Args:
        parser: `OnnxParser` of either library, whose `parse` has returned False.
    """
    complaints = tuple(dict.fromkeys(_complaint(parser.get_error(number)) for number in range(parser.num_errors)))
    return complaints or (Complaint("", "it refuses the graph and gives no reason"),)


def _complaint(error: Any) -> Complaint:
    name, operator = error.node_name(), error.node_operator()
    node = f"{name} ({operator})" if name and operator else name or operator
    says = " ".join(error.desc().split())
    if says.lower() in _EMPTY:
        says = f"{error.code().name.lower().replace('_', ' ')} in {error.func()}"
    return Complaint(node, says)
