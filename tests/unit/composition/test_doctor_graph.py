"""`edgevit doctor BUNDLE --target NAME`: whether TensorRT takes the graph, told without a device."""

from __future__ import annotations

import sys

import pytest

from edgevit.bundle import Bundle
from edgevit.bundle_writer import write_bundle

pytest.importorskip("onnx_ir", reason="the graph is looked at with the export extra")
onnx = pytest.importorskip("onnx", reason="faults are planted with onnx")


@pytest.fixture
def no_parser(monkeypatch):
    """As where neither TensorRT is installed."""
    monkeypatch.setattr("edgevit.commands.doctor_graph.find_spec", lambda name: None)


@pytest.fixture
def planted(make_bundle, tmp_path):
    """A bundle whose graph has a fault: `plant(target, NODE_TYPE, **attributes)` puts one node before the logits."""

    def plant(target, op_type, **attributes):
        bundle = Bundle.open(make_bundle("sound", target=target))
        model = onnx.load_from_string(bundle.read("model.onnx"))
        mean = model.graph.node[0]
        mean.output[0] = "before"
        model.graph.node.insert(
            1, onnx.helper.make_node(op_type, ["before"], ["logits"], name="head/odd", **attributes)
        )
        files = {"model.onnx": model.SerializeToString(), "golden.npz": bundle.read("golden.npz")}
        return write_bundle(tmp_path / "planted", bundle.manifest, files).path

    return plant


@pytest.mark.usefixtures("no_parser")
@pytest.mark.parametrize("target", ["jetson-orin", "jetson-orin-jp7", "jetson-thor", "desktop-gpu", "rtx"])
def test_a_graph_that_the_target_takes_passes_without_a_device(edgevit, make_bundle, target):
    outcome = edgevit("doctor", make_bundle(target=target), "--target", target, "--json")
    assert outcome.status == 0, outcome.err
    graph = outcome.json["graph"]
    assert graph["findings"] == [] and graph["unseen"] is None and graph["parsers"] == []
    assert len(graph["releases"]) == (2 if target == "jetson-thor" else 1)


def test_the_installed_parser_is_asked_too(edgevit, make_bundle):
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed, so its parser is not asked")
    outcome = edgevit("doctor", make_bundle(target="rtx"))
    assert outcome.status == 0
    assert f"graph for TensorRT-RTX 1.7; asked: the parser of TensorRT-RTX {trt.__version__}" in outcome.out
    assert "nothing in it that is known to be refused" in outcome.out


def test_a_tensorrt_that_does_not_load_is_told_and_the_next_parser_asked(edgevit, make_bundle, monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    bundle = make_bundle(target="jetson-orin")
    outcome = edgevit("doctor", bundle)
    assert outcome.status == 0, outcome.err
    assert "parser not asked: tensorrt is installed and does not load (libnvinfer.so.10" in outcome.out
    (line,) = edgevit("doctor", bundle, "--json").json["graph"]["unasked"]
    assert line.endswith("mend the installation")


@pytest.mark.usefixtures("no_parser")
def test_what_a_release_refuses_ends_with_status_1_and_names_the_node(edgevit, planted):
    bundle = planted("jetson-orin", "Det")
    outcome = edgevit("doctor", bundle)
    assert outcome.status == 1
    assert "TensorRT 10.3 refuses the graph: no release reads the operator (head/odd: Det)" in outcome.error
    assert "refused" in outcome.out and "write it with other operators" in outcome.out
    (finding,) = edgevit("doctor", bundle, "--json").json["graph"]["findings"]
    assert finding["severity"] == "refused" and finding["nodes"] == ["head/odd: Det"] and finding["source"]


def test_what_another_librarys_parser_refuses_is_told_and_ends_nothing(edgevit, planted, monkeypatch):
    # A plugin may be in TensorRT 10.3 that TensorRT-RTX lacks, so that its word is a hint there.
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed, so its parser is not asked")
    monkeypatch.setattr("edgevit.export.preflight._RULES", ())
    hint = edgevit("doctor", planted("jetson-orin", "Det"), "--json")
    assert hint.status == 0
    assert [finding["severity"] for finding in hint.json["graph"]["findings"]] == ["unknown"]


def test_what_the_targets_own_parser_refuses_ends_with_status_1(edgevit, planted, monkeypatch):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed, so its parser is not asked")
    monkeypatch.setattr("edgevit.export.preflight._RULES", ())
    outcome = edgevit("doctor", planted("rtx", "Det"))
    assert outcome.status == 1 and "its parser says" in outcome.error and "head/odd (Det)" in outcome.error


@pytest.mark.usefixtures("no_parser")
def test_what_is_only_unknown_is_shown_and_passes(edgevit, planted):
    outcome = edgevit("doctor", planted("jetson-thor", "Brandnew"))
    assert outcome.status == 0
    assert outcome.out.count("the operator is in no table of TensorRT's parser") == 2, "once for each release"


@pytest.mark.usefixtures("no_parser")
def test_without_the_export_extra_it_says_what_to_install(edgevit, make_bundle, monkeypatch):
    bundle = make_bundle(target="jetson-orin")
    for name in [name for name in sys.modules if name.startswith("edgevit.export.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    outcome = edgevit("doctor", bundle)
    assert outcome.status == 0
    assert "the graph was not looked at for TensorRT 10.3" in outcome.out
    assert "pip install 'edgevit[export]'" in outcome.out


def test_a_target_of_another_runtime_has_no_such_part(edgevit, bundle):
    assert edgevit("doctor", bundle, "--json").json["graph"] is None


def test_a_damaged_graph_is_not_looked_at(edgevit, make_bundle):
    bundle = make_bundle(target="rtx")
    graph = bundle / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    outcome = edgevit("doctor", bundle, "--json")
    assert outcome.status == 2 and "SHA-256" in outcome.error and outcome.json["graph"] is None
