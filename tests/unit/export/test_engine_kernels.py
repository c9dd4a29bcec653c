from __future__ import annotations

import json

import pytest

from edgevit.errors import CheckFailed
from edgevit.export.engine_kernels import EngineKernels, kernels_of_inspector, kernels_of_log, require_kernels

# As TensorRT-RTX 1.7.1 logs them.
LOG = """\
Name: blocks.0.attention/Half_myl0_1, LayerType: gemm, Inputs: [ { Name: Int8, Dimensions: [4,8], Datatype: Float, Format: (Linear) }], Constants: [], Outputs: [ { Name: b, Datatype: Float }], TacticName: __myelin_CASK_STUB, StreamId: 0, Metadata: [ONNX Layer: attention]
Name: _gemm_mha_v2_myl0_3, LayerType: kgen, Inputs: [ { Name: a, Datatype: Half }], Constants: [], Outputs: [ { Name: b, Datatype: Half }], TacticName: _gemm_mha_v2_0xd9, StreamId: 0, Metadata: [ONNX Layer: p]
Name: q_myl0_4, LayerType: kgen, Inputs: [ { Name: a, Datatype: Half }], Constants: [ { Name: w, Datatype: Int8 }], Outputs: [ { Name: b, Datatype: Half }], TacticName: __myl_Mul_0x1, StreamId: 0, Metadata: 
Name: count_myl0_5, LayerType: kgen, Inputs: [ { Name: a, Datatype: Int64 }], Constants: [], Outputs: [ { Name: b, Datatype: Int32 }], TacticName: __myl_Cast_0x1, StreamId: 0, Metadata: 
"""  # noqa: E501, W291


def inspected(datatype: str, tactic: str, key: str = "Format/Datatype") -> dict[str, object]:
    tensor = {"Name": "FP8 in a name", "Dimensions": [1, 4], key: datatype}
    return {"Name": "x", "LayerType": "kgen", "Inputs": [tensor], "Outputs": [tensor], "TacticName": tactic}


def test_kernels_are_counted_by_the_lowest_type_they_touch_and_not_by_names() -> None:
    kernels = kernels_of_log(LOG.splitlines())
    assert kernels.count == 3
    assert kernels.shares == {"fp16": 1 / 3, "fp32": 1 / 3, "int8": 1 / 3}
    assert kernels.attention_fused == 1


def test_an_inspector_tells_the_same_in_the_words_of_each_release() -> None:
    layers = [
        inspected("Row major linear FP16 format", "_gemm_mha_v2_0x1"),
        inspected("Half", "__myl_Fused", key="Datatype"),
        inspected("BFloat16", "sm80_xmma_gemm"),
        inspected("Row major linear FP32 format", "0x0000000000000000"),
    ]
    kernels = kernels_of_inspector(json.dumps({"Layers": layers, "Bindings": []}))
    assert kernels == EngineKernels(4, {"bf16": 0.25, "fp16": 0.5, "fp32": 0.25}, 1)


@pytest.mark.parametrize("text", ['{"Layers": ["names", "alone"], "Bindings": []}', '{"Layers": []}', "{}"])
def test_where_nothing_is_told_nothing_is_claimed(text: str) -> None:
    assert kernels_of_inspector(text) == EngineKernels(0, {}, None)
    assert kernels_of_log([]) == EngineKernels(0, {}, None)


def test_an_engine_without_a_kernel_of_the_type_asked_for_fails() -> None:
    kernels = EngineKernels(40, {"fp32": 1.0}, 0)
    with pytest.raises(CheckFailed, match=r"asked for fp16, but no kernel .* works in it \(100 % fp32\)"):
        require_kernels(kernels, "fp16")
    require_kernels(kernels, "fp32")
    require_kernels(EngineKernels(40, {"fp32": 0.5, "fp16": 0.5}, 0), "fp16")


def test_one_kernel_for_the_whole_graph_tells_nothing() -> None:
    require_kernels(EngineKernels(1, {"fp32": 1.0}, 0), "fp16")  # its types are those of the graph's ends
