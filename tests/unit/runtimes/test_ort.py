from __future__ import annotations

import sys

import numpy as np
import pytest

from edgevit.errors import InputError, MissingExtra
from edgevit.probes import LayerProfiler
from edgevit.runtimes.ort import OrtRunner

onnxruntime = pytest.importorskip("onnxruntime", reason="the runner needs onnxruntime")
onnx = pytest.importorskip("onnx", reason="the graphs are built with onnx")

IMAGE = np.random.default_rng(1).random((1, 3, 8, 8), dtype=np.float32)


def refusal_to_load(runner: OrtRunner) -> str:
    with pytest.raises(InputError) as refusal, runner:
        pass
    line = str(refusal.value)
    assert len(line.splitlines()) == 1
    return line


def test_without_onnxruntime_the_line_says_which_extra_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"pip install 'edgevit\[cpu\]'"):
        OrtRunner(b"")


def test_an_onnxruntime_that_lacks_something_itself_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "onnxruntime.py").write_text("import a_library_that_is_not_there")
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_there") as error:
        OrtRunner(b"")
    assert not isinstance(error.value, InputError)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)


def test_a_provider_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(InputError, match=r"got MoonExecutionProvider; wanted .*CPUExecutionProvider"):
        OrtRunner(b"", providers=["CPUExecutionProvider", "MoonExecutionProvider"])


def test_no_provider_at_all_is_refused():
    with pytest.raises(InputError, match="got no provider"):
        OrtRunner(b"", providers=[])


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_than_one_thread_is_refused(threads):
    with pytest.raises(InputError, match=f"got {threads} threads"):
        OrtRunner(b"", threads=threads)


def test_a_provider_that_leaves_nodes_to_the_cpu_is_refused(make_model):
    """No graph of this suite runs on Azure, whose provider would hand every node to the CPU without a word."""
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no provider but the CPU's")
    line = refusal_to_load(OrtRunner(make_model(), providers=["AzureExecutionProvider"]))
    assert "AzureExecutionProvider" in line and "CPU" in line


def test_the_cpu_beside_another_provider_may_run_nodes_when_it_was_asked_for(make_model):
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no provider but the CPU's")
    with OrtRunner(make_model(), providers=["AzureExecutionProvider", "CPUExecutionProvider"]) as runner:
        assert runner.facts["provider"] == "AzureExecutionProvider, CPUExecutionProvider"
        np.testing.assert_allclose(runner(IMAGE)["logits"], IMAGE.mean(axis=(2, 3)), rtol=1e-5)


def test_a_provider_that_drops_out_while_loading_is_refused(make_model, monkeypatch):
    """A provider whose own libraries are missing: onnxruntime goes on with the CPU alone."""
    build = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, providers, **settings: build(model, options, providers=["CPUExecutionProvider"]),
    )
    monkeypatch.setattr(onnxruntime.SessionOptions, "add_session_config_entry", lambda options, key, value: None)
    line = refusal_to_load(OrtRunner(make_model(), providers=["CUDAExecutionProvider"]))
    assert line.startswith("asked onnxruntime for CUDAExecutionProvider and got CPUExecutionProvider")


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_facts_say_what_was_asked_for(make_model, threads):
    with OrtRunner(make_model(), threads=threads) as runner:
        assert runner.facts == {
            "runtime": "ort",
            "version": onnxruntime.__version__,
            "provider": "CPUExecutionProvider",
            "threads": threads or "auto",
        }


def test_a_model_may_be_bytes_a_file_or_a_function_that_reads(make_model, tmp_path):
    data = make_model()
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    answers = []
    for model in (data, path, path.read_bytes):
        with OrtRunner(model) as runner:
            answers.append(runner(IMAGE)["logits"])
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])


def test_nothing_is_read_before_the_runner_is_entered(make_model):
    reads = []
    runner = OrtRunner(lambda: reads.append(1) or make_model())
    assert not reads
    for _ in range(2):
        with runner:
            pass
    assert len(reads) == 2


def test_the_bytes_of_the_graph_are_not_kept_beside_the_loaded_one(make_model):
    data = make_model()
    before = sys.getrefcount(data)
    with OrtRunner(lambda: data) as runner:
        runner(IMAGE)
        assert sys.getrefcount(data) == before


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    assert "No such file" in refusal_to_load(OrtRunner(tmp_path / "none.onnx"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"\xff" * len(data),
        lambda data: data.replace(b"ReduceMean", b"ReduceMoon"),
        lambda data: data.replace(b"plane", b"plaque", 1),
    ],
    ids=["empty", "truncated", "noise", "unknown operator", "dangling name"],
)
def test_a_damaged_model_is_one_line_and_nothing_else_is_printed(make_model, damage, capfd):
    line = refusal_to_load(OrtRunner(damage(make_model())))
    assert line.startswith(f"onnxruntime {onnxruntime.__version__} cannot load the graph on CPUExecutionProvider: ")
    assert capfd.readouterr() == ("", "")


def test_a_graph_of_two_inputs_is_refused(make_model):
    assert "2 inputs, wanted one" in refusal_to_load(OrtRunner(make_model(inputs=2)))


def test_a_symbolic_dimension_is_refused_by_name(make_model):
    line = refusal_to_load(OrtRunner(make_model(shape=("batch", 3, 8, 8))))
    assert "image: batch x 3 x 8 x 8, wanted fixed sizes" in line


def test_an_input_that_is_not_float32_is_refused(make_model):
    line = refusal_to_load(OrtRunner(make_model(dtype=onnx.TensorProto.DOUBLE)))
    assert "image: float64 1 x 3 x 8 x 8, wanted float32" in line


def test_an_output_type_without_a_numpy_counterpart_is_refused(make_model):
    line = refusal_to_load(OrtRunner(make_model(output_type=onnx.TensorProto.BFLOAT16)))
    assert "logits: tensor(bfloat16)" in line


def test_a_refused_model_leaves_the_runner_unloaded(make_model):
    runner = OrtRunner(make_model(inputs=2))
    refusal_to_load(runner)
    with pytest.raises(InputError, match="not loaded"):
        runner(IMAGE)


def test_a_graph_that_fails_while_running_is_one_line_and_prints_nothing(capfd):
    """An index that only the data decide: it loads, and cannot run."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["image"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["image", "index"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "gather",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (4,))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (4,))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with OrtRunner(model.SerializeToString()) as runner:
        runner(np.zeros(4, np.float32))
        with pytest.raises(InputError, match=r"failed while running: .*Gather") as refusal:
            runner(np.full(4, 99, np.float32))
    assert len(str(refusal.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


def test_a_profile_has_the_time_of_every_node_in_every_batch_and_leaves_no_file(make_model, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with OrtRunner(make_model(), threads=1) as runner:
        assert isinstance(runner, LayerProfiler)
        before = runner(IMAGE)["logits"]
        times = runner.profile([IMAGE, 2 * IMAGE, IMAGE])
        np.testing.assert_array_equal(runner(IMAGE)["logits"], before)
    assert {time.query for time in times} == {0, 1, 2}
    assert [time.operator for time in times] == ["ReduceMean", "Cast"] * 3
    assert all(time.duration_ns >= 0 for time in times)
    assert list(tmp_path.iterdir()) == []


def test_a_profile_that_fails_leaves_no_file_either(make_model, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with OrtRunner(make_model()) as runner:
        with pytest.raises(InputError, match="wanted image: float32 1 x 3 x 8 x 8"):
            runner.profile([IMAGE[:, :2]])
        monkeypatch.setattr(onnxruntime.InferenceSession, "end_profiling", lambda session: str(tmp_path / "none"))
        with pytest.raises(InputError, match="left no profile"):
            runner.profile([IMAGE])
    assert list(tmp_path.iterdir()) == []


def test_only_a_loaded_runner_can_be_profiled(make_model):
    with pytest.raises(InputError, match="not loaded"):
        OrtRunner(make_model()).profile([IMAGE])
