"""From an inference module to a graph: torch's exporter, a fixed batch, nothing symbolic."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op

from edgevit.errors import InputError
from edgevit.models.deploy import Deployed

__all__ = ["trace"]


def _lowest_index_top_k(scores: Any, k: int) -> Any:
    """The k best of each row, then their positions in ascending order.

    ONNX's TopK gives the lower index first among equals, which is what `tokens.lowest_index_top_k` promises.
    """
    count: Any = op.Constant(value_ints=[k])
    _, best = op.TopK(scores, count, axis=1, largest=1, sorted=1)
    ascending, _ = op.TopK(best, count, axis=1, largest=0, sorted=1)
    return ascending


def trace(module: Deployed, image_shape: tuple[int, int, int, int], opset: int) -> ir.Model:
    """Trace a module into a graph of static shapes.

    Args:
        module: what `deploy` gave.
        image_shape: B x 3 x H x W.
        opset: ONNX opset.

    Returns:
        A model with the input `image` and the module's outputs by name.

    Raises:
        InputError: torch cannot trace or translate the module; the line carries torch's reason.
    """
    table: dict[Callable[..., Any], Callable[..., Any]] = {
        torch.ops.edgevit.lowest_index_top_k.default: _lowest_index_top_k
    }
    with _quiet():
        try:
            program = torch.onnx.export(
                module,
                (torch.zeros(image_shape),),
                dynamo=True,
                opset_version=opset,
                input_names=["image"],
                output_names=list(module.output_names),
                custom_translation_table=table,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = _innermost(error)
            raise InputError(
                f"torch cannot export this module ({reason}); its forward must be traceable: no branches on tensor "
                "values, no shapes that depend on them"
            ) from error
    assert program is not None
    return program.model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notices and its listings of a failed graph off the user's terminal: `trace` says it all."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _innermost(error: BaseException) -> str:
    """The first line of the deepest cause: the exporter wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
