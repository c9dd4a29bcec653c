"""Name every node after the module it came from, so that a profile or a drift ladder reads like the model."""

from __future__ import annotations

import ast
from collections import Counter

import onnx_ir as ir

__all__ = ["name_nodes"]

_SCOPES = "pkg.torch.onnx.name_scopes"
_ROOT = "model"


def name_nodes(model: ir.Model) -> None:
    """Rename nodes to `module.path/Operator`, in place; needs the exporter's scopes in the nodes' metadata.

    A module that is entered more than once, as the shared stack is, carries the number of the pass:
    `blocks.0[2].attention.qkv/MatMul` belongs to the third recursion step. A node without scopes, inserted by an
    optimizer, belongs to the module of the node before it. A name that would repeat gets a number.
    """
    paths: list[tuple[str, ...]] = []
    for node in model.graph:
        scopes = node.metadata_props.get(_SCOPES)
        # From the outermost module to the innermost; the last entry is the operation itself.
        modules = tuple(scope for scope in ast.literal_eval(scopes)[:-1] if scope) if scopes else None
        paths.append(modules if modules is not None else (paths[-1] if paths else ()))
    passes = _passes(paths)
    shared = {module for entered in passes for module, number in entered.items() if number > 0}
    seen: Counter[str] = Counter()
    for node, path, entered in zip(model.graph, paths, passes, strict=True):
        name = f"{_label(path, entered, shared)}/{node.op_type}"
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name] - 1}"


def _passes(paths: list[tuple[str, ...]]) -> list[dict[str, int]]:
    """For each node, how often each module around it had been entered before, in execution order."""
    entered: Counter[str] = Counter()
    before: tuple[str, ...] = ()
    result = []
    for path in paths:
        for module in path:
            if module not in before:
                entered[module] += 1
        before = path
        result.append({module: entered[module] - 1 for module in path})
    return result


def _label(path: tuple[str, ...], entered: dict[str, int], shared: set[str]) -> str:
    """The innermost module's path, with the number of the pass behind the outermost shared module on it."""
    if not path:
        return "graph"
    inner = path[-1]
    outermost = next((module for module in path if module in shared), None)
    if outermost is not None:
        inner = f"{outermost}[{entered[outermost]}]{inner[len(outermost) :]}"
    return inner.removeprefix(f"{_ROOT}.")
