from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest
from onnx import parser

from edgevit.export import trt_facts
from edgevit.export.pipeline import build_graph
from edgevit.export.preflight import Finding, preflight
from edgevit.export.settings import ExportSettings
from edgevit.export.trt_facts import FACTS, Fact
from edgevit.export.trt_operators import ADDED_IN, NOT_READ, TYPES_READ
from edgevit.export.trt_releases import RELEASES, RTX_1_7, TRT_10_3, TRT_10_13, TRT_11, releases_of
from edgevit.targets import TARGETS

DATA_DEPENDENT = "g (float[1,8] image) => (int64[2,K] logits) { [which] logits = NonZero(image) }"
BRANCH = (
    "g (float[1,3] image) => (float[1,3] logits) { zero = Constant<value_float=0.0>()  s = ReduceSum<keepdims=0>(image)"
    "  b = Greater(s, zero)  [gate] logits = If (b) <"
    " then_branch = t () => (float[1,3] y) { y = Relu(image) },"
    " else_branch = e () => (float[1,3] z) { z = Identity(image) }> }"
)
TEXTS = {
    "Attention": "g (float16[1,2,8,16] q) => (float16[1,2,8,16] logits) { [attend] logits = Attention(q, q, q) }",
    "Attention in float32": "g (float[1,2,8,16] q) => (float[1,2,8,16] logits) { logits = Attention(q, q, q) }",
    "NonZero": DATA_DEPENDENT,
    "If": BRANCH,
    "TopK of 4000": "g (float[1,5000] image) => (float[1,4000] logits)"
    " { k = Constant<value_ints=[4000]>()  [pick] logits, i = TopK(image, k) }",
    "TopK of 3840": "g (float[1,5000] image) => (float[1,3840] logits)"
    " { k = Constant<value_ints=[3840]>()  logits, i = TopK(image, k) }",
    "TopK unsorted": "g (float[1,8] image) => (float[1,4] logits)"
    " { k = Constant<value_ints=[4]>()  logits, i = TopK<sorted=0>(image, k) }",
    "TopK of an input": "g (float[1,8] image, int64[1] k) => (float[1,N] logits) { logits, i = TopK(image, k) }",
    "TopK of the first of five axes": "g (float[8,1,1,1,1] image) => (float[4,1,1,1,1] logits)"
    " { k = Constant<value_ints=[4]>()  logits, i = TopK<axis=0>(image, k) }",
    "ScatterElements add": "g (float[4,3] image, int64[2,3] at, float[2,3] new) => (float[4,3] logits)"
    ' { logits = ScatterElements<reduction="add">(image, at, new) }',
    "ScatterElements of bool": "g (bool[4,3] image, int64[2,3] at, bool[2,3] new) => (bool[4,3] logits)"
    " { logits = ScatterElements(image, at, new) }",
    "ScatterND add": "g (float[4,3] image, int64[2,1] at, float[2,3] new) => (float[4,3] logits)"
    ' { logits = ScatterND<reduction="add">(image, at, new) }',
    "ScatterND none": "g (float[4,3] image, int64[2,1] at, float[2,3] new) => (float[4,3] logits)"
    ' { logits = ScatterND<reduction="none">(image, at, new) }',
    "uint8": "g (float[1,3] image) => (float[1,3] logits) <float s = {0.1}, uint8 z = {0}>"
    " { q = QuantizeLinear(image, s, z)  logits = DequantizeLinear(q, s, z) }",
    "zero point": "g (float[1,3] image) => (float[1,3] logits) <float s = {0.1}, int8 z = {5}>"
    " { q = QuantizeLinear(image, s, z)  logits = DequantizeLinear(q, s, z) }",
    "int32 bias": "g (float[1,3] image) => (float[1,3] logits) <int32[3] b = {1, 2, 3}, float s = {0.1}>"
    " { [bias] d = DequantizeLinear(b, s)  logits = Add(image, d) }",
    "int8": "g (float[1,3] image) => (float[1,3] logits) <float s = {0.1}, int8 z = {0}>"
    " { q = QuantizeLinear(image, s, z)  logits = DequantizeLinear(q, s, z) }",
    "two outputs": "g (float[1,3] image) => (float[1,3] logits, float[1,1] mean) <float[3] s = {1, 1, 1}>"
    " { logits, mean = LayerNormalization(image, s) }",
    "no such operator": "g (float[1,3,3] image) => (float[1] logits) { logits = Det(image) }",
    "double": "g (double[1,3] image) => (double[1,3] logits) { logits = Relu(image) }",
    "dynamic": "g (float[N,3] image) => (float[N,3] logits) { logits = Relu(image) }",
    "softmax": "g (float[1,2,4] image) => (float[1,2,4] logits) { logits = Softmax(image) }",
}


def model_of(text: str, opset: int = 20) -> ir.Model:
    return ir.from_proto(parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}'))


def severities(text: str, opset: int = 20) -> tuple[str | None, ...]:
    """The worst that each release says of a graph."""
    model = model_of(text, opset)
    found = [preflight(model, release) for release in RELEASES]
    return tuple(findings[0].severity if findings else None for findings in found)


def only(findings: tuple[Finding, ...]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


R = "refused"


@pytest.mark.parametrize(
    "planted, opset, expected",
    [
        # 10.3, 10.13, 11, RTX 1.7
        ("softmax", 20, (None, None, None, None)),
        ("int8", 20, (None, None, None, None)),
        ("TopK of 3840", 20, (None, None, None, None)),
        ("softmax", 23, ("unknown", "unknown", None, None)),
        ("softmax", 8, ("unknown", "unknown", "unknown", "unknown")),
        ("softmax", 25, ("unknown", "unknown", "unknown", "unknown")),
        ("Attention", 23, (R, R, None, None)),
        ("Attention in float32", 23, (R, R, "unknown", R)),
        ("NonZero", 20, ("slower", "slower", "slower", R)),
        ("If", 20, ("slower", "slower", "slower", "slower")),
        ("TopK of 4000", 20, (R, R, R, R)),
        ("TopK unsorted", 20, (R, R, R, None)),
        ("TopK of an input", 20, ("slower", "slower", "slower", "slower")),
        ("TopK of the first of five axes", 20, (R, R, R, R)),
        ("ScatterElements add", 20, ("falls back", "falls back", "falls back", R)),
        ("ScatterElements of bool", 20, (R, R, R, "unknown")),
        ("ScatterND add", 20, (R, R, R, R)),
        ("ScatterND none", 20, ("unknown", None, None, None)),
        ("uint8", 20, (R, R, R, R)),
        ("zero point", 20, (R, R, R, R)),
        ("int32 bias", 20, (R, R, R, R)),
        ("two outputs", 20, (R, R, R, R)),
        ("no such operator", 20, (R, R, R, R)),
        ("double", 20, ("falls back", "falls back", "falls back", "falls back")),
        ("dynamic", 20, (R, R, R, R)),
    ],
)
def test_a_planted_fault_is_found_on_the_releases_that_have_it(
    planted: str, opset: int, expected: tuple[str | None, ...]
) -> None:
    assert severities(TEXTS[planted], opset) == expected


@pytest.mark.parametrize(
    "planted, node",
    [
        ("NonZero", "which"),
        ("If", "gate"),
        ("TopK of 4000", "pick: K = 4000"),
        ("int32 bias", "bias: INT32"),
        ("two outputs", "LayerNormalization of logits"),
    ],
)
def test_a_finding_names_the_node_and_what_to_do(planted: str, node: str) -> None:
    finding = only(preflight(model_of(TEXTS[planted]), TRT_10_3))
    assert finding.nodes == (node,) and finding.remedy and finding.source and finding.release == "TensorRT 10.3"


def test_an_operator_that_came_later_is_named_with_the_release_that_brought_it() -> None:
    refused = preflight(model_of(TEXTS["Attention"], 23), TRT_10_13)[0]
    assert refused.nodes == ("attend: Attention of 10.14",)


def test_an_opset_that_nobody_tried_stands_with_where_that_is_known_from() -> None:
    finding = only(preflight(model_of(TEXTS["softmax"], 23), TRT_10_3))
    assert finding.nodes == ("opset 23, known are 9 to 20",) and finding.source == TRT_10_3.opset_source


def test_what_is_in_a_branch_is_looked_at_too() -> None:
    inside = BRANCH.replace("y = Relu(image)", "y = Det(image)")
    found = {finding.says: finding.severity for finding in preflight(model_of(inside), TRT_11)}
    assert found[trt_facts.NO_SUCH_OPERATOR.says] == "refused" and found[trt_facts.IF.says] == "slower"


def test_the_worst_comes_first() -> None:
    text = TEXTS["double"].replace("Relu(image)", "Det(image)")
    assert [finding.severity for finding in preflight(model_of(text, 26), TRT_11)] == ["refused", "unknown"]


def test_an_operator_of_another_domain_is_refused_and_an_unlisted_one_unknown() -> None:
    model = model_of("g (float[1,3] image) => (float[1,3] logits) { a = Relu(image)  logits = Relu(a) }")
    first, second = model.graph
    first.name, first.domain = "blocks.0/act", "com.microsoft"
    second.name, second.op_type = "blocks.1/act", "Brandnew"
    found = {finding.severity: finding.nodes for finding in preflight(model, RTX_1_7)}
    assert found == {"refused": ("blocks.0/act: com.microsoft.Relu",), "unknown": ("blocks.1/act: Brandnew",)}


SCORES = "t = Transpose<perm=[0,2,1]>(image)  c = Constant<value_float=0.5>()"
ENDS = "g (float[1,2,4] image, float[1,1,2] mask) => (float[1,2,4] logits)"


@pytest.mark.parametrize(
    "body, says",
    [
        ("q = Mul(image, c)  s = MatMul(q, t)  p = Softmax(s)  logits = MatMul(p, image)", None),
        ("q = Mul(image, c)  s = MatMul(q, t)  a = Add(s, mask)  p = Softmax(a)  logits = MatMul(p, image)", None),
        # the mask is made by a product of its own, which is no score
        (
            "q = Mul(image, c)  s = MatMul(q, t)  k = Mul(mask, c)  a = Add(s, k)  p = Softmax(a)"
            "  logits = MatMul(p, image)",
            None,
        ),
        ("s = MatMul(image, t)  m = Mul(s, c)  p = Softmax(m)  logits = MatMul(p, image)", "SCORES_SCALED"),
        (
            "s = MatMul(image, t)  m = Div(s, c)  a = Add(mask, m)  p = Softmax(a)  logits = MatMul(p, image)",
            "SCORES_SCALED",
        ),
        (
            "h = Cast<to=10>(image)  g = Cast<to=10>(t)  s = MatMul(h, g)  f = Cast<to=1>(s)  p = Softmax(f)"
            "  d = Cast<to=10>(p)  o = MatMul(d, h)  logits = Cast<to=1>(o)",
            "SOFTMAX_TYPE",
        ),
    ],
)
def test_an_attention_that_is_not_of_the_documented_form_is_told(body: str, says: str | None) -> None:
    findings = preflight(model_of(f"{ENDS} {{ {SCORES}  {body} }}"), TRT_11)
    assert [finding.says for finding in findings] == ([getattr(trt_facts, says).says] if says else [])


def test_bytes_are_read_as_the_model_is_and_the_model_stays_as_it_was() -> None:
    model = model_of(TEXTS["int32 bias"])
    data = ir.to_proto(model).SerializeToString(deterministic=True)
    assert preflight(data, TRT_11) == preflight(model, TRT_11)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == data


def test_every_fact_is_in_the_table_and_says_where_it_is_from() -> None:
    facts = [value for value in vars(trt_facts).values() if isinstance(value, Fact)]
    assert list(FACTS) == facts
    for fact in FACTS:
        assert fact.says and fact.remedy and fact.source and any(fact.on) and len(fact.on) == len(RELEASES)


def test_the_page_has_the_table_as_it_is() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "tensorrt.md").read_text(encoding="utf-8")
    for fact in FACTS:
        row = f"| {fact.says} | {' | '.join(cell or '' for cell in fact.on)} | {fact.source} |"
        assert row in page, "run benchmarks/suites/preflight_table.py --only none"


def test_every_target_of_tensorrt_has_releases_and_no_other() -> None:
    with_releases = {target.name for target in TARGETS if releases_of(target.name)}
    assert with_releases == {target.name for target in TARGETS if target.runtime in ("trt", "trt-rtx")}
    for target in TARGETS:
        assert all(target.opset <= release.newest_opset for release in releases_of(target.name))


def test_no_operator_is_both_read_and_not() -> None:
    assert not NOT_READ & set(TYPES_READ) and set(ADDED_IN) <= set(TYPES_READ)


def test_the_graphs_that_the_exporter_writes_for_it_pass(tiny_source) -> None:
    graph = build_graph(tiny_source, ExportSettings(routing="topk", target="rtx"))
    for release in RELEASES:
        assert preflight(graph.onnx, release) == ()
