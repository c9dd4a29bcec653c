from __future__ import annotations

import sys

import numpy as np
import pytest

from edgevit.errors import InputError, MissingExtra
from edgevit.runtimes.choose import open_runner
from edgevit.runtimes.ov import OpenVinoRunner

openvino = pytest.importorskip("openvino", reason="the runner needs openvino")
onnx = pytest.importorskip("onnx", reason="the graphs are built with onnx")

IMAGE = np.random.default_rng(1).random((1, 3, 8, 8), dtype=np.float32)


def refusal_to_load(runner: OpenVinoRunner) -> str:
    with pytest.raises(InputError) as refusal, runner:
        pass
    line = str(refusal.value)
    assert len(line.splitlines()) == 1
    return line


def branching_graph() -> bytes:
    """An `If`: the means of bright images are doubled, those of dark ones tripled."""
    from onnx import TensorProto, helper, numpy_helper

    def branch(name: str, scale: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{name}_logits", TensorProto.FLOAT, (1, 3))
        return helper.make_graph([helper.make_node("Mul", ["colour", scale], [f"{name}_logits"])], name, [], [out])

    nodes = [
        helper.make_node("ReduceMean", ["image", "plane"], ["colour"], keepdims=0),
        helper.make_node("ReduceMax", ["colour"], ["brightest"], keepdims=0),
        helper.make_node("Greater", ["brightest", "half"], ["bright"]),
        helper.make_node(
            "If", ["bright"], ["logits"], then_branch=branch("yes", "two"), else_branch=branch("no", "three")
        ),
    ]
    constants = {
        "plane": np.array([2, 3]), "half": np.array(0.5, np.float32),
        "two": np.array(2, np.float32), "three": np.array(3, np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "branching",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, IMAGE.shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 3))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def test_without_openvino_the_line_says_which_extra_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"pip install 'edgevit\[openvino\]'"):
        OpenVinoRunner(b"")


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_than_one_thread_is_refused(threads):
    with pytest.raises(InputError, match=f"got {threads} threads"):
        OpenVinoRunner(b"", threads=threads)


def test_it_computes_in_f32_whatever_the_processor_would_rather(make_model):
    """OpenVINO takes bf16 by itself where the processor has it; the compiled graph is asked what it really does."""
    with OpenVinoRunner(make_model(), threads=1) as runner:
        assert runner.facts["inference_precision"] == "f32"
        assert runner.facts["threads"] == 1
        assert str(runner.facts["device"]).startswith("CPU: ")
        assert openvino.__version__.startswith(str(runner.facts["version"]))


def test_another_precision_than_the_graphs_is_refused_and_not_told_in_small_print(make_model, monkeypatch):
    class Compiled(openvino.CompiledModel):
        def get_property(self, name):
            if name == "INFERENCE_PRECISION_HINT":
                return openvino.Type.bf16
            return super().get_property(name)

    class Core(openvino.Core):
        def compile_model(self, *arguments):
            return Compiled(super().compile_model(*arguments))

    monkeypatch.setattr(openvino, "Core", Core)
    assert "to compute in f32 and got bf16" in refusal_to_load(OpenVinoRunner(make_model()))


def test_only_the_branch_that_was_taken_answers():
    with OpenVinoRunner(branching_graph(), threads=1) as runner:
        for image, factor in ((IMAGE * 0.1, 3), (IMAGE * 0.1 + 0.8, 2)):
            image = image.astype(np.float32)
            np.testing.assert_allclose(runner(image)["logits"], image.mean(axis=(2, 3)) * factor, rtol=1e-5)


def ranking_graph(in_a_branch: bool) -> bytes:
    """The indices of the 12 largest of 48 values, at the top or inside the branches of an `If`."""
    from onnx import TensorProto, helper, numpy_helper

    def ranked(prefix: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("Reshape", ["image", "row"], [f"{prefix}flat"]),
            helper.make_node("TopK", [f"{prefix}flat", "k"], [f"{prefix}values", f"{prefix}indices"], axis=1),
            helper.make_node("Cast", [f"{prefix}indices"], [f"{prefix}logits"], to=TensorProto.FLOAT),
        ]

    def result(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 12))

    def branch(name: str) -> onnx.GraphProto:
        return helper.make_graph(ranked(f"{name}_"), name, [], [result(f"{name}_logits")])

    nodes = ranked("")
    if in_a_branch:
        nodes = [
            helper.make_node("ReduceMax", ["image"], ["largest"], keepdims=0),
            helper.make_node("Greater", ["largest", "two"], ["large"]),
            helper.make_node("If", ["large"], ["logits"], then_branch=branch("yes"), else_branch=branch("no")),
        ]
    constants = {"row": np.array([1, 48]), "k": np.array([12]), "two": np.array(2, np.float32)}
    graph = helper.make_graph(
        nodes,
        "ranking",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 4, 4))],
        [result("logits")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("in_a_branch", [False, True])
@pytest.mark.parametrize("levels", [1, 2, 5])
def test_of_equal_scores_the_lowest_index_wins(in_a_branch, levels):
    rng = np.random.default_rng(levels)
    with OpenVinoRunner(ranking_graph(in_a_branch), threads=1) as runner:
        for _ in range(10):
            image = rng.integers(0, levels, (1, 3, 4, 4)).astype(np.float32)
            wanted = np.argsort(-image.ravel(), kind="stable")[:12]
            np.testing.assert_array_equal(runner(image)["logits"][0], wanted)


def test_a_graph_that_is_none_is_refused_in_one_line():
    assert "cannot load the graph" in refusal_to_load(OpenVinoRunner(b"no graph"))


@pytest.mark.parametrize(
    "broken, line",
    [
        ({"shape": ("batch", 3, 8, 8)}, "wanted fixed sizes"),
        ({"dtype": onnx.TensorProto.DOUBLE, "output_type": onnx.TensorProto.FLOAT}, "wanted float32"),
        ({"operator": "Unheard"}, "cannot load the graph"),
        ({"output_type": onnx.TensorProto.UINT16}, "wanted one of"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(make_model, broken, line):
    assert line in refusal_to_load(OpenVinoRunner(make_model(**broken)))


def test_a_file_that_is_not_there_is_refused_when_it_is_entered(tmp_path):
    assert "cannot read the graph" in refusal_to_load(OpenVinoRunner(tmp_path / "model.onnx"))


def test_a_bundles_graph_is_hashed_before_openvino_sees_it(make_bundle, make_model):
    bundle = make_bundle(make_model(), routed=False, target="openvino")
    graph = bundle.path / "model.onnx"
    with open_runner(bundle, threads=1) as runner:
        assert runner.facts["runtime"] == "ov"
        np.testing.assert_allclose(runner(IMAGE)["logits"], IMAGE.mean(axis=(2, 3)), rtol=1e-5)
    graph.write_bytes(bytes(reversed(graph.read_bytes())))
    assert "SHA-256 differs" in refusal_to_load(open_runner(bundle))


def test_it_has_no_providers(make_bundle):
    with pytest.raises(InputError, match="for runtime ov, which has none"):
        open_runner(make_bundle(target="openvino"), provider="CPUExecutionProvider")
