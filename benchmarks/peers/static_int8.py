"""int8 by ONNX Runtime's own quantizer, and the runner of an ONNX file, for comparison."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization

from edgevit.runtimes.ort import OrtRunner


def ort(path: str) -> OrtRunner:
    """An ONNX file on ONNX Runtime, as a factory for the harness."""
    return OrtRunner(Path(path))


class _Reader(quantization.CalibrationDataReader):
    def __init__(self, batches: Iterable[np.ndarray]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def quantize_static(graph: bytes, batches: Iterable[np.ndarray], *, linears_only: bool) -> bytes:
    """What `onnxruntime.quantization.quantize_static` makes of a graph: signed, symmetric, per channel, Q/DQ.

    Args:
        graph: a finished fp32 graph.
        batches: to calibrate on; all activations of all of them are kept at once, so few.
        linears_only: products of an activation with a weight only, as its options can say it; else its own choice.
    """
    options = {"ActivationSymmetric": True, "WeightSymmetric": True}
    if linears_only:
        options |= {"MatMulConstBOnly": True}
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(onnx.load_from_string(graph), source)
        quantization.quantize_static(
            source,
            target,
            _Reader(batches),
            op_types_to_quantize=["MatMul", "Gemm"] if linears_only else None,
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options=options,
        )
        return target.read_bytes()
