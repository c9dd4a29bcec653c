from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from onnx import parser

from edgevit.export.ask_parser import ask_parser, library_name

trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed, so its parser is not asked")


def onnx_of(text: str, opset: int = 20) -> bytes:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}').SerializeToString()


def test_a_graph_that_the_parser_takes_has_no_findings(tiny_graph) -> None:
    assert ask_parser(tiny_graph("topk").onnx, trt) == ()


def test_what_the_parser_refuses_is_said_with_the_node(capfd) -> None:
    text = "g (float[1,8] image) => (int64[2,K] logits) { [which] logits = NonZero(image) }"
    (finding,) = ask_parser(onnx_of(text), trt)
    assert finding.severity == "refused" and finding.nodes == ("which (NonZero)",)
    assert finding.release == library_name(trt) == f"TensorRT-RTX {trt.__version__}"
    assert "NonZero plugin" in finding.says and "\n" not in finding.says
    assert capfd.readouterr() == ("", ""), "the library's log stays off the terminal"


def test_a_refusal_without_a_word_is_a_finding_all_the_same() -> None:
    silent = SimpleNamespace(parse=lambda data: False, num_errors=0)
    library: Any = ModuleType("tensorrt")
    library.__dict__.update({key: value for key, value in vars(trt).items() if not key.startswith("__")})
    library.__version__, library.OnnxParser = "10.3.0", lambda network, logger: silent
    (finding,) = ask_parser(b"", library)
    assert finding.severity == "refused" and finding.says.endswith("it refuses the graph and gives no reason")


def test_what_is_no_graph_is_a_finding_and_no_crash() -> None:
    (finding,) = ask_parser(b"no graph", trt)
    assert finding.severity == "refused" and "Failed to parse" in finding.says


@pytest.mark.parametrize(
    "text",
    [
        "g (float[1,3] image) => (float[1,3] logits) <int32[3] b = {1, 2, 3}, float s = {0.1}>"
        " { d = DequantizeLinear(b, s)  logits = Add(image, d) }",
        "g (float[4,3] image, int64[2,3] at, float[2,3] new) => (float[4,3] logits)"
        ' { logits = ScatterElements<reduction="add">(image, at, new) }',
        "g (float[1,3] image) => (float[1,3] logits) <float s = {0.1}, int8 z = {5}>"
        " { q = QuantizeLinear(image, s, z)  logits = DequantizeLinear(q, s, z) }",
        "g (float[1,3,3] image) => (float[1] logits) { logits = Det(image) }",
    ],
)
def test_what_the_table_says_this_parser_refuses_it_does(text: str) -> None:
    from edgevit.export.preflight import preflight
    from edgevit.export.trt_releases import RTX_1_7

    data = onnx_of(text)
    assert ask_parser(data, trt) and preflight(data, RTX_1_7)[0].severity == "refused"
