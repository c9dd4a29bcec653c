"""int8 linear layers: QuantizeLinear and DequantizeLinear before every product of an activation with a weight.

One file has to serve TensorRT 10.3 and later and ONNX Runtime, which fixes the form:

- Signed and symmetric, zero point 0, activations and weights: TensorRT takes nothing else. ONNX Runtime runs it as fast
  as unsigned activations (0.53 and 0.54 of fp32 for DeiT-S on a CPU with AVX512-VNNI), since it shifts them itself.
- Biases stay float and outside of the product: TensorRT's parser refuses an int32 bias behind a DequantizeLinear. They
  are stored as a row of at least three dimensions, because ONNX Runtime makes a Gemm of MatMul + Add with a bias of one
  dimension before it looks for int8, has no int8 Gemm with a float bias, and then dequantizes the weights at every run:
  that file took 2.2 times as long as fp32.
- Convolutions stay float: ONNX Runtime has int8 ones with an int8 result and an int32 bias only.
- Scales cover the 99.999th percentile of the magnitudes. On 231 pictures of X-SDD, after calibration on 128 others, all
  ways made every decision alike; the error of the logits, as a share of their spread, was for steel-dense and
  steel-recursive 0.0030 and 0.0025 by it, 0.0030 and 0.0030 by the largest number, 0.0050 and 0.0035 by the 99.99th
  percentile, 0.0065 and 0.0031 by entropy, 0.0045 and 0.0036 by least squared error, 0.017 and 0.0086 by the 99.9th.

NVIDIA's ModelOpt would do as well for TensorRT, but its extra for ONNX (0.47) replaces onnx and onnxruntime by older
versions and needs CuPy. ONNX Runtime's `quantize_static` does not do for these graphs: see `benchmarks/suites/int8.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgevit.errors import InputError

from .fullest import fullest
from .linears import Linear, deciding, linears_of
from .products import shape_of
from .ranges import Ranges
from .rung_names import without_rung
from .shapes import with_shapes
from .write_int8 import Activations, Int8Writer

__all__ = ["Quantized", "quantize_linears"]

_NEWEST_OPSET = 23  # that ONNX Runtime has int8 kernels for; TensorRT's targets read less
_PERCENTILE = 99.999
_THINNEST = 16  # inputs or outputs, below which a product costs less than its quantization


@dataclass(frozen=True)
class Quantized:
    """What was made int8.

    Attributes:
        linears: products of an activation with a weight in the graph, that of all rungs counted once.
        quantized: how many of them multiply in int8 now.
        kept: the others, `name: reason`, in graph order.
    """

    linears: int
    quantized: int
    kept: tuple[str, ...]


def quantize_linears(
    model: ir.Model,
    ranges: Ranges,
    *,
    activations: Activations = "int8",
    reduce_range: bool = False,
    keep: Collection[str] = (),
    clip: Callable[[Ranges, str], float] | None = None,
) -> Quantized:
    """Make the linears of a finished fp32 graph int8, in place.

    A weight is rounded once, per output channel, and stored once as int8 whatever the number of recursion steps that
    use it; so either all its uses are int8 or none is. An activation has one scale for each time it is made, so one a
    recursion step, and is rounded once if several linears read it. What answers or chooses tokens stays float. The
    rungs of a step have the scales of the step and its stored weights in common.

    Args:
        model: opset 23 or less.
        ranges: measured on this graph, if it has branches on `fullest` of it.
        activations: `int8` symmetric; or `uint8` with a zero point, which TensorRT refuses.
        reduce_range: round weights to 7 bits. On an x86 CPU with AVX2 but without VNNI the sum of two products of 8
            bits overflows the 16 bits it is kept in.
        keep: names of linears that stay float as well.
        clip: the largest magnitude that a value's scale covers. None for the 99.999th percentile of a value whose
            histogram was measured (`activations_of`), for others the largest one seen.

    Raises:
        InputError: an opset above 23, ranges of another graph, or a name in `keep` that is no linear.
    """
    opset = model.opset_imports.get("", 0)
    if opset > _NEWEST_OPSET:
        raise InputError(
            f"int8 is for graphs of opset {_NEWEST_OPSET} or less, got {opset}; export with --opset {_NEWEST_OPSET}"
        )
    whole = fullest(model)
    linears = linears_of(whole)
    kept = _kept(whole, linears, ranges, keep)
    shaped = with_shapes(model).graph.all_nodes()
    ranks = {value.name: len(shape_of(value)) for node in shaped for value in node.outputs}
    writer = Int8Writer(model, activations, reduce_range=reduce_range)
    for linear in linears_of(model):
        if without_rung(linear.name) in kept:
            continue
        name = without_rung(linear.activation.name)
        largest = (clip or _usual_clip)(ranges, name)
        low, high = max(ranges.smallest[name], -largest), min(ranges.biggest[name], largest)
        writer.write(linear, (low, high), ranks[linear.node.outputs[0].name])
    writer.drop_unused()
    return Quantized(
        linears=len(linears),
        quantized=len(linears) - len(kept),
        kept=tuple(f"{linear.name}: {kept[linear.name]}" for linear in linears if linear.name in kept),
    )


def _usual_clip(ranges: Ranges, name: str) -> float:
    return ranges.clipped(name, _PERCENTILE) if name in ranges.histograms else _largest(ranges, name)


def _largest(ranges: Ranges, name: str) -> float:
    return max(abs(ranges.smallest[name]), abs(ranges.biggest[name]))


def _kept(model: ir.Model, linears: tuple[Linear, ...], ranges: Ranges, keep: Collection[str]) -> dict[str, str]:
    """Names of the linears that stay float, each with the reason."""
    unknown = set(keep) - {linear.name for linear in linears}
    if unknown:
        raise InputError(f"asked to keep {min(unknown)} in float, which is no linear of the graph")
    kept = deciding(model, linears)
    for linear in linears:
        name = str(linear.activation.name)
        if linear.name in kept:
            continue
        if not linear.plain:
            kept[linear.name] = "is a Gemm with factors or a transposed activation"
        elif min(linear.matrix.shape) < _THINNEST:
            kept[linear.name] = f"has fewer than {_THINNEST} inputs or outputs"
        elif linear.name in keep:
            kept[linear.name] = "was asked to"
        elif name not in ranges.smallest:
            raise InputError(f"{name}: no range was measured; measure the ranges on the graph that is quantized")
        elif not 0 < _largest(ranges, name) < np.inf:
            what = "is nothing but 0" if _largest(ranges, name) == 0 else f"becomes {_largest(ranges, name):g}"
            kept[linear.name] = f"its input {what} on the calibration pictures"
    _keep_together(linears, kept)
    return kept


def _keep_together(linears: tuple[Linear, ...], kept: dict[str, str]) -> None:
    """A weight that is needed in float anyhow is not stored in int8 beside it."""
    for linear in linears:
        sharing = [other for other in linears if other.weight is linear.weight]
        if linear.name in kept:
            continue
        if len({id(other.node) for other in sharing}) < len(linear.weight.uses()):
            kept[linear.name] = "its weight is used otherwise too"
        elif any(other.transposed != linear.transposed for other in sharing):
            kept[linear.name] = "its weight is used transposed too"
    floating = {linear.weight: linear.name for linear in linears if linear.name in kept}
    for linear in linears:
        if linear.weight in floating:
            kept.setdefault(linear.name, f"shares its weight with {floating[linear.weight]}")
