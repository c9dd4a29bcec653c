"""What the parser of an installed TensorRT or TensorRT-RTX says of a graph. It needs no GPU."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any

from .parse_errors import Complaint, parse_errors
from .preflight import Finding

__all__ = ["ask_parser", "library_name"]

_LONGEST = 200


def library_name(library: ModuleType) -> str:
    """`TensorRT-RTX 1.7.1.116`, `TensorRT 11.4.0.106`."""
    kind = "TensorRT-RTX" if library.__name__ == "tensorrt_rtx" else "TensorRT"
    return f"{kind} {library.__version__}"


def ask_parser(onnx: bytes, library: ModuleType) -> tuple[Finding, ...]:
    """Its complaints, each `refused`; none where it takes the graph.

    A graph that parses may still not build: TopK of more than 3840 does so. `preflight` knows of those.

    Args:
        onnx: the file.
        library: the module `tensorrt` or `tensorrt_rtx`.
    """
    builder = library.Builder(_quiet(library))
    network = builder.create_network(_strongly_typed(library))
    parser = library.OnnxParser(network, _quiet(library))
    if parser.parse(onnx):
        return ()
    return tuple(dict.fromkeys(_finding(complaint, library) for complaint in parse_errors(parser)))


@lru_cache(maxsize=2)
def _quiet(library: ModuleType) -> Any:
    """The process's logger: the library keeps a pointer to the first one it is given, so that one must live on."""
    return library.Logger(library.Logger.INTERNAL_ERROR)


def _strongly_typed(library: ModuleType) -> int:
    """TensorRT 10 has a flag for it; later releases and TensorRT-RTX know nothing else."""
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _finding(complaint: Complaint, library: ModuleType) -> Finding:
    said = complaint.says
    said = said if len(said) <= _LONGEST else f"{said[: _LONGEST - 3]}..."
    return Finding(
        release=library_name(library),
        severity="refused",
        says=f"its parser says: {said}",
        nodes=(complaint.node,) if complaint.node else (),
        remedy="export again with --routing mask or topk at opset 20, or report it with the node's name",
        source="the installed parser",
    )
