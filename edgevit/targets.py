"""The table of targets: named classes of devices with their runtime, architecture, opset, precisions and attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgevit.errors import InputError
from edgevit.spec import Precision

__all__ = ["TARGETS", "Attention", "Layout", "Runtime", "Target", "target_named"]

Runtime = Literal["ort", "trt", "trt-rtx", "ov"]
Attention = Literal["decomposed", "fused-op"]
Layout = Literal["tokens", "rows"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """One class of devices.

    Attributes:
        name: what `--target` takes.
        runtime: the runtime that serves it.
        architecture: instruction set or CUDA compute capability.
        opset: the ONNX opset an export for it uses unless asked otherwise.
        newest_opset: the newest it reads.
        precisions: what an export for it may ask for.
        attention: `decomposed` MatMul-Softmax-MatMul, or the `Attention` operator of opset 23.
        layout: what linears work on: `tokens`, B x L x C, or `rows`, (B L) x C, each with its bias in one Gemm.
        description: one line for `edgevit list targets`.
    """

    name: str
    runtime: Runtime
    architecture: str
    opset: int
    newest_opset: int
    precisions: tuple[Precision, ...]
    attention: Attention
    layout: Layout
    description: str


# int8 stands for int8 products with the rest in fp32 on a CPU, and with the rest in fp16 on tensor cores.
_ON_A_CPU: tuple[Precision, ...] = ("fp32", "int8")
_ON_TENSOR_CORES: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")

# What ONNX Runtime's CPU runs best in fp32 was measured by benchmarks/suites/forms.py.
# TensorRT 10.3 (JetPack 6) has no Attention operator and takes int8 as Q/DQ of opset 20 or less, so that one
# file serves 10.3 and 11.x every TensorRT row stays decomposed at opset 20.
TARGETS: tuple[Target, ...] = (
    Target(name="cpu-x86", runtime="ort", architecture="x86-64, AVX2 or better", opset=23, newest_opset=23,
           precisions=_ON_A_CPU, attention="fused-op", layout="rows", description="ONNX Runtime on an x86-64 CPU"),
    Target(name="cpu-arm", runtime="ort", architecture="AArch64", opset=23, newest_opset=23,
           precisions=_ON_A_CPU, attention="fused-op", layout="rows", description="ONNX Runtime on a 64-bit Arm CPU"),
    Target(name="jetson-orin", runtime="trt", architecture="sm_87", opset=20, newest_opset=20,
           precisions=_ON_TENSOR_CORES, attention="decomposed", layout="tokens",
           description="Jetson Orin, JetPack 6, TensorRT 10.3"),
    Target(name="jetson-orin-jp7", runtime="trt", architecture="sm_87", opset=20, newest_opset=20,
           precisions=_ON_TENSOR_CORES, attention="decomposed", layout="tokens",
           description="Jetson AGX Orin, JetPack 7.2.2, TensorRT 11.4"),
    Target(name="jetson-thor", runtime="trt", architecture="sm_110", opset=20, newest_opset=20,
           precisions=_ON_TENSOR_CORES, attention="decomposed", layout="tokens",
           description="Jetson Thor, JetPack 7, TensorRT 10.13 to 11.4"),
    Target(name="desktop-gpu", runtime="trt", architecture="sm_80 or later", opset=20, newest_opset=20,
           precisions=_ON_TENSOR_CORES, attention="decomposed", layout="tokens",
           description="desktop or server GPU, TensorRT 11"),
    Target(name="rtx", runtime="trt-rtx", architecture="sm_75, 80, 86, 89, 120, 121", opset=20, newest_opset=20,
           precisions=_ON_TENSOR_CORES, attention="decomposed", layout="tokens",
           description="TensorRT-RTX, built ahead of time without a GPU"),
    Target(name="openvino", runtime="ov", architecture="x86-64 or AArch64", opset=20, newest_opset=23,
           precisions=_ON_A_CPU, attention="decomposed", layout="tokens", description="OpenVINO on a CPU"),
)  # fmt: skip


def target_named(name: str) -> Target:
    """The target of that name.

    Raises:
        InputError: there is no such target; the line lists those there are.
    """
    for target in TARGETS:
        if target.name == name:
            return target
    raise InputError(f"unknown target '{name}'; wanted one of: {', '.join(t.name for t in TARGETS)}")
