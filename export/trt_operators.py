"""Which ONNX operators TensorRT's parser reads, of which types, and since when: data, read from its own tables.

The types are those of the table that onnx-tensorrt 10.15 ships (`docs/operators.md`), the operators that came after
10.3 those of its `docs/Changelog.md`. The tables of 10.3, 10.13, 11.x and TensorRT-RTX were not at hand: 10.3 and 10.13
are taken to read what 10.15 does less what the change log brought after them, 11.x and TensorRT-RTX what 10.15 does.
"""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["ADDED_IN", "NOT_READ", "TYPES_READ"]

_HALVES_AND_FLOAT = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_NUMBERS = _HALVES_AND_FLOAT | {ir.DataType.INT32, ir.DataType.INT64}
_ALL = _NUMBERS | {ir.DataType.BOOL}
_FLOAT_OR_FP16 = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16})
_QUANTIZED = frozenset({ir.DataType.INT8, ir.DataType.INT4, ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT4E2M1})

_BY_TYPES: tuple[tuple[str, frozenset[ir.DataType]], ...] = (
    (
        "Acos Acosh Asin Asinh Atan Atanh Attention AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose "
        "Cos Cosh CumSum Dropout Einsum Elu Erf Exp Floor Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GRU "
        "GroupNormalization HardSigmoid HardSwish Hardmax InstanceNormalization IsInf LRN LSTM LayerNormalization "
        "LeakyRelu Log LogSoftmax LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization PRelu QuantizeLinear "
        "RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Reciprocal Resize "
        "RotaryEmbedding Round Scan Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu "
        "Upsample",
        _HALVES_AND_FLOAT,
    ),
    (
        "Abs Add ArgMax ArgMin DepthToSpace Div Equal Gelu Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean Min "
        "Mod Mul Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
        "ReduceProd ReduceSum ReduceSumSquare Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum "
        "TensorScatter TopK",
        _NUMBERS,
    ),
    (
        "Concat Constant ConstantOfShape Expand EyeLike Flatten Gather GatherElements GatherND Identity Loop OneHot "
        "Reshape ReverseSequence Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where",
        _ALL,
    ),
    ("Cast CastLike", _ALL | {ir.DataType.UINT8}),
    ("And If Not Or Xor", frozenset({ir.DataType.BOOL})),  # an If's input is its condition
    (
        "BlackmanWindow DeformConv GridSample HammingWindow HannWindow Mish NonMaxSuppression NonZero RoiAlign",
        _FLOAT_OR_FP16,
    ),
    ("STFT", frozenset({ir.DataType.FLOAT})),
    ("DequantizeLinear", _QUANTIZED),
)

TYPES_READ: dict[str, frozenset[ir.DataType]] = {
    name: types | ({ir.DataType.INT64, ir.DataType.INT32} if name.endswith("Window") else set())
    for names, types in _BY_TYPES
    for name in names.split()
}
"""Types of the first data input that an operator is read with."""

ADDED_IN: dict[str, tuple[int, int]] = {
    "BlackmanWindow": (10, 4),
    "HammingWindow": (10, 4),
    "HannWindow": (10, 4),
    "STFT": (10, 5),
    "Attention": (10, 14),
    "RMSNormalization": (10, 15),
    "RotaryEmbedding": (10, 15),
    "TensorScatter": (10, 15),
}
"""The release of TensorRT whose parser first read an operator, for those that came after 10.3."""

NOT_READ: frozenset[str] = frozenset(
    "AffineGrid Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Col2Im CenterCropPad Compress "
    "ConcatFromSequence ConvInteger DFT Det DynamicQuantizeLinear ImageDecoder MatMulInteger MaxRoiPool MaxUnpool "
    "MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement OptionalHasElement QLinearConv "
    "QLinearMatMul RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert "
    "SequenceLength SequenceMap SoftmaxCrossEntropyLoss SplitToSequence StringConcat StringNormalizer StringSplit "
    "TfIdfVectorizer Unique".split()
)
"""Operators of ONNX that no release reads."""
