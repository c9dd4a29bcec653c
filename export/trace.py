"""From an inference module to a graph: torch's exporter, a fixed batch, nothing symbolic."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnxscript import opset18 as op
from onnxscript import values

from edgevit.errors import InputError
from edgevit.models.deploy import Deployed

__all__ = ["SMALLEST_RUNG", "trace"]


def _lowest_index_top_k(scores: Any, k: int) -> Any:
    """The k best of each row, then their positions in ascending order.

    ONNX's TopK gives the lower index first among equals, which is what `tokens.lowest_index_top_k` promises.
    """
    count: Any = op.Constant(value_ints=[k])
    _, best = op.TopK(scores, count, axis=1, largest=1, sorted=1)
    ascending, _ = op.TopK(best, count, axis=1, largest=0, sorted=1)
    return ascending


def _smallest_rung(x: Any, ranks: Any, count: Any, step: int, cls_alone: bool) -> Any:
    """The operator as it is, with the shape of x written down, for `ladder` to replace."""
    opset = values.Opset(SMALLEST_RUNG.domain, SMALLEST_RUNG.since_version)
    operator = values.Op(opset, SMALLEST_RUNG.name, SMALLEST_RUNG)
    return operator(x, ranks, count, step=step, cls_alone=int(cls_alone), shape=[int(side) for side in x.shape])


_Schema = onnx.defs.OpSchema
SMALLEST_RUNG = _Schema(
    "SmallestRung",
    "edgevit",
    1,
    inputs=[_Schema.FormalParameter(name, kind) for name, kind in (("x", "T"), ("ranks", "T"), ("count", "I"))],
    outputs=[_Schema.FormalParameter("after", "T")],
    type_constraints=[("T", ["tensor(float)"], ""), ("I", ["tensor(int32)"], "")],
    attributes=[
        _Schema.Attribute("step", _Schema.AttrType.INT, "0-based", required=True),
        _Schema.Attribute(
            "cls_alone", _Schema.AttrType.INT, "whether nobody reads the patches after it", required=True
        ),
        _Schema.Attribute("shape", _Schema.AttrType.INTS, "of x", required=True),
    ],
)


def trace(
    module: Deployed,
    image_shape: tuple[int, int, int, int],
    opset: int,
    more_inputs: Mapping[str, tuple[int, ...]] | None = None,
) -> ir.Model:
    """Trace a module into a graph of static shapes.

    Args:
        module: what `deploy` gave.
        image_shape: B x 3 x H x W.
        opset: ONNX opset.
        more_inputs: names and shapes of what the module takes after the image.

    Returns:
        A model with the input `image` and the module's outputs by name.

    Raises:
        InputError: torch cannot trace or translate the module; the line carries torch's reason.
    """
    table: dict[Callable[..., Any], Callable[..., Any]] = {
        torch.ops.edgevit.lowest_index_top_k.default: _lowest_index_top_k,
        torch.ops.edgevit.smallest_rung.default: _smallest_rung,
    }
    inputs = {"image": image_shape, **(more_inputs or {})}
    with _quiet():
        try:
            program = torch.onnx.export(
                module,
                tuple(torch.zeros(shape) for shape in inputs.values()),
                dynamo=True,
                opset_version=opset,
                input_names=list(inputs),
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
