"""Name every node after the module it came from, so that a profile or a drift ladder reads like the model."""

from __future__ import annotations

import ast
from collections import Counter

import onnx_ir as ir

__all__ = ["name_new_nodes", "name_nodes"]

_SCOPES = "pkg.torch.onnx.name_scopes"
_ROOT = "model"


def name_nodes(model: ir.Model) -> None:
    """Rename nodes to `module.path/Operator`, in place; needs the exporter's scopes in the nodes' metadata.

    A block of the shared stack carries the number of the pass: `blocks.0[2].attention.qkv/MatMul` belongs to the
    third recursion step. A node without scopes, inserted by an optimizer, belongs to the module of the node
    before it. A name that would repeat gets a number.
    """
    paths: list[tuple[str, ...]] = []
    for node in model.graph:
        scopes = node.metadata_props.get(_SCOPES)
        # From the outermost module to the innermost; the last entry is the operation itself.
        modules = tuple(scope for scope in ast.literal_eval(scopes)[:-1] if scope) if scopes else None
        paths.append(modules if modules is not None else (paths[-1] if paths else ()))
    shared = {block for block, count in Counter(_entries(paths)).items() if count > 1}
    passes: Counter[str] = Counter()
    labels = []
    for path, entered in zip(paths, _entering(paths), strict=True):
        passes.update(entered)
        labels.append(_label(path, shared, passes))
    _name(model, labels)


def name_new_nodes(model: ir.Model) -> None:
    """Name what a rewriter has put in after the module of the node before it, in place; other names stay."""
    labels: list[str] = []
    for node in model.graph:
        old, slash, _ = (node.name or "").rpartition("/")
        labels.append(old if slash else (labels[-1] if labels else "graph"))
    _name(model, labels)


def _name(model: ir.Model, labels: list[str]) -> None:
    seen: Counter[str] = Counter()
    for node, label in zip(model.graph, labels, strict=True):
        name = f"{label}/{node.op_type}"
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name] - 1}"


def _entering(paths: list[tuple[str, ...]]) -> list[set[str]]:
    """For each node, the blocks that a new pass begins in: their first norm is entered.

    That a block appears again is no sign, since a stack of one block follows itself.
    """
    result = []
    before: tuple[str, ...] = ()
    for path in paths:
        norms = [scope.rpartition(".norm1")[0] for scope in path if scope.endswith(".norm1") or ".norm1." in scope]
        fresh = not any(scope.endswith(".norm1") or ".norm1." in scope for scope in before)
        result.append({norm for norm in norms if norm} if fresh else set())
        before = path
    return result


def _entries(paths: list[tuple[str, ...]]) -> list[str]:
    return [block for entered in _entering(paths) for block in entered]


def _label(path: tuple[str, ...], shared: set[str], passes: Counter[str]) -> str:
    """The innermost module's path, with the number of the pass behind a shared block."""
    if not path:
        return "graph"
    inner = path[-1]
    block = next((module for module in path if module in shared), None)
    if block is not None:
        inner = f"{block}[{passes[block] - 1}]{inner[len(block) :]}"
    return inner.removeprefix(f"{_ROOT}.")
