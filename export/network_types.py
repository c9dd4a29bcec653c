"""What a TensorRT network computes in, read layer by layer before it is built: deserializing an engine needs a GPU.

A strongly typed network keeps these types. Runs on Python 3.10, where a Jetson builds.

Does not know: ONNX, how a network is built, bundles.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgevit.errors import CheckFailed
from edgevit.spec import Precision

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["NetworkTypes", "network_types", "require_types"]

_NAMES = {"FLOAT": "fp32", "HALF": "fp16"}  # the others are their own in lower case: bf16, int8, fp8
_FLOATS = ("fp32", "fp16", "bf16")
_WEIGHTS = (*_FLOATS, "int8", "fp8", "int4", "fp4")
_VIEWS = ("SHUFFLE", "SQUEEZE", "UNSQUEEZE", "IDENTITY", "CAST")
_MOVES = (*_VIEWS, "CONSTANT", "SLICE", "CONCATENATION", "GATHER", "SCATTER", "SELECT", "QUANTIZE", "DEQUANTIZE")
_PRODUCTS = ("MATRIX_MULTIPLY", "CONVOLUTION", "DECONVOLUTION")
# Islands of a higher precision are meant to be small; where they are most of the graph the request was not met.
_WANTED_SHARE = 0.5


@dataclass(frozen=True)
class NetworkTypes:
    """Types are named as in `EnginePrecision`, whose fields of these names have the same meaning."""

    products: Mapping[str, float]
    layers: Mapping[str, float]
    weight_bytes: Mapping[str, int]
    attention: Mapping[str, int]
    attention_fusable: int


def network_types(network: trt.INetworkDefinition, library: ModuleType) -> NetworkTypes:
    """Read the types of a parsed network."""
    return _Reader(network, library).read()


def require_types(types: NetworkTypes, wanted: Precision) -> None:
    """Hold what a network computes in against what was asked for.

    Raises:
        CheckFailed: less than half of the weights are multiplied in that type, for fp32 any is not; or beside int8
            most of the other layers stayed in fp32, which makes an int8 engine slower than an fp16 one.
    """
    found = ", ".join(f"{100 * share:.0f} % {name}" for name, share in types.products.items()) or "none"
    share = types.products.get(wanted, 0.0)
    if types.products and share < (1.0 if wanted == "fp32" else _WANTED_SHARE):
        raise CheckFailed(
            f"asked for {wanted}, but of its weights the network multiplies {found}; export the bundle again with "
            f"--precision {wanted}"
        )
    slow = types.layers.get("fp32", 0.0)
    if wanted == "int8" and slow > _WANTED_SHARE:
        raise CheckFailed(
            f"asked for int8, but {100 * slow:.0f} % of the layers beside its products compute in fp32, wanted fp16 "
            "there; export the bundle again for this target"
        )


class _Reader:
    """One pass over a network, with what made each tensor and what reads it by the tensor's name."""

    def __init__(self, network: trt.INetworkDefinition, library: ModuleType) -> None:
        self._library = library
        self._layers = [network.get_layer(i) for i in range(network.num_layers)]
        self._makers = {out.name: layer for layer in self._layers for out in _outputs(layer)}
        self._readers: dict[str, list[trt.ILayer]] = {}
        for layer in self._layers:
            for tensor in _inputs(layer):
                self._readers.setdefault(tensor.name, []).append(layer)

    def read(self) -> NetworkTypes:
        numbers: Counter[str] = Counter()
        layers: Counter[str] = Counter()
        weight_bytes: Counter[str] = Counter()
        seen = set()
        for layer in self._layers:
            kind = layer.type.name
            if kind == "CONSTANT":
                tensor = layer.get_output(0)
                name = _type(tensor)
                if name in _WEIGHTS and tensor.name in self._readers:
                    weight_bytes[name] += _bytes(_numbers(tensor), name)
            elif kind not in _MOVES and layer.num_outputs and _type(layer.get_output(0)) in _FLOATS:
                computes = self._computes_in(layer) if kind in _PRODUCTS else _type(layer.get_output(0))
                if computes in _FLOATS:
                    layers[computes] += 1
                if kind in _PRODUCTS:
                    for weight, count in self._weights(layer):
                        if weight not in seen:
                            numbers[computes] += count
                        seen.add(weight)
                    own = self._own_weights(layer)
                    numbers[computes] += own
                    weight_bytes[computes] += _bytes(own, computes)
        chains = list(self._attention())
        return NetworkTypes(
            products=_shares(numbers),
            layers=_shares(layers),
            weight_bytes=dict(sorted((+weight_bytes).items())),
            attention=dict(sorted(Counter(name for name, _ in chains).items())),
            attention_fusable=sum(fusable for _, fusable in chains),
        )

    def _computes_in(self, product: trt.ILayer) -> str:
        """The type of a product: of what was quantized where all its inputs were, else of its result."""
        types = set()
        for tensor in _inputs(product):
            maker = self._back(tensor)
            quantized = maker is not None and maker.type.name == "DEQUANTIZE"
            types.add(_type(maker.get_input(0)) if quantized and maker is not None else _type(tensor))
        return types.pop() if len(types) == 1 else _type(product.get_output(0))

    def _weights(self, product: trt.ILayer) -> Iterator[tuple[str, int]]:
        """Name and size of the constants that a product multiplies by."""
        for tensor in _inputs(product):
            maker = self._back(tensor)
            while maker is not None and maker.type.name in ("QUANTIZE", "DEQUANTIZE"):
                maker = self._back(maker.get_input(0))
            if maker is not None and maker.type.name == "CONSTANT":
                constant = maker.get_output(0)
                yield constant.name, _numbers(constant)

    def _own_weights(self, product: trt.ILayer) -> int:
        """How many weights a convolution holds itself, rather than as an input."""
        if product.type.name not in ("CONVOLUTION", "DECONVOLUTION") or product.num_inputs > 1:
            return 0
        kind = "IConvolutionLayer" if product.type.name == "CONVOLUTION" else "IDeconvolutionLayer"
        return int(self._as(product, kind).kernel.size)

    def _attention(self) -> Iterator[tuple[str, bool]]:
        """Each chain MatMul-Softmax-MatMul: its type, and whether it can be fused.

        Documented ("Fused Attention" in NVIDIA's TensorRT pages): heads in an axis of their own, that is products of
        four axes; the scale on Q or K before the first product; a mask added or none. That the products must be fp16
        or bf16, and that the Softmax between them may be fp32, was seen in what TensorRT-RTX 1.7.1 built.
        """
        for layer in self._layers:
            if layer.type.name != "SOFTMAX":
                continue
            scores, scaled = self._scores(layer)
            after = self._forward(layer)
            if scores is None or after is None:
                continue
            first, second = (_type(product.get_output(0)) for product in (scores, after))
            heads = all(len(product.get_output(0).shape) == 4 for product in (scores, after))
            yield first, first == second and first in ("fp16", "bf16") and heads and not scaled

    def _scores(self, softmax: trt.ILayer) -> tuple[trt.ILayer | None, bool]:
        """The product before a Softmax, and whether the scores are scaled after it."""
        scaled = False
        layer = self._back(softmax.get_input(0))
        while layer is not None and layer.type.name in ("ELEMENTWISE", "SELECT"):
            operation = self._as(layer, "IElementWiseLayer").op.name if layer.type.name == "ELEMENTWISE" else "SELECT"
            scaled = scaled or operation in ("PROD", "DIV")
            made = [self._back(tensor) for tensor in _inputs(layer)]
            layer = next((m for m in made if m is not None and m.type.name in (*_PRODUCTS, "ELEMENTWISE")), None)
        return (layer if layer is not None and layer.type.name == "MATRIX_MULTIPLY" else None), scaled

    def _back(self, tensor: trt.ITensor) -> trt.ILayer | None:
        """What made a tensor, views and casts aside; None for an input of the network."""
        layer = self._makers.get(tensor.name)
        while layer is not None and layer.type.name in _VIEWS:
            layer = self._makers.get(layer.get_input(0).name)
        return layer

    def _forward(self, layer: trt.ILayer) -> trt.ILayer | None:
        """The product that reads a layer's result, views and casts aside."""
        readers = self._readers.get(layer.get_output(0).name, [])
        for reader in readers:
            found = self._forward(reader) if reader.type.name in _VIEWS else reader
            if found is not None and found.type.name == "MATRIX_MULTIPLY":
                return found
        return None

    def _as(self, layer: trt.ILayer, kind: str) -> Any:
        """The layer as the class that has its own fields; a network hands all of them out as plain layers."""
        layer.__class__ = getattr(self._library, kind)
        return layer


def _inputs(layer: trt.ILayer) -> list[trt.ITensor]:
    return [tensor for i in range(layer.num_inputs) if (tensor := layer.get_input(i)) is not None]


def _outputs(layer: trt.ILayer) -> list[trt.ITensor]:
    return [tensor for i in range(layer.num_outputs) if (tensor := layer.get_output(i)) is not None]


def _type(tensor: trt.ITensor) -> str:
    name: str = tensor.dtype.name
    return _NAMES.get(name, name.lower())


def _numbers(tensor: trt.ITensor) -> int:
    shape: Any = tensor.shape  # iterates, whatever the stubs say
    return math.prod(shape)


def _bytes(count: int, name: str) -> int:
    bits = {"fp32": 32, "fp16": 16, "bf16": 16, "int4": 4, "fp4": 4}.get(name, 8)
    return count * bits // 8


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    whole = sum(counts.values())
    return {name: count / whole for name, count in sorted(counts.items()) if count}
