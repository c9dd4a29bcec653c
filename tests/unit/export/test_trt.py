"""Every call of the build path on the real TensorRT-RTX, which builds without a GPU."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

trt_rtx = pytest.importorskip("tensorrt_rtx", reason="builds with TensorRT-RTX: pip install 'edgevit[tensorrt-rtx]'")

from attention_graphs import attention_graph  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402

from edgevit.errors import CheckFailed, InputError  # noqa: E402
from edgevit.export.trt import BuiltEngine, EngineSettings, build_engine, builds_ahead  # noqa: E402
from edgevit.export.trt_progress import BuildProgress  # noqa: E402


def built(onnx: bytes, **settings: Any) -> BuiltEngine:
    return build_engine(onnx, trt_rtx, EngineSettings(**settings))


def foreign_graph() -> bytes:
    """A graph with an operator that nobody knows."""
    node = helper.make_node("Foretell", ["image"], ["logits"], name="head/Foretell", domain="")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("image", "logits")]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def test_tensorrt_rtx_builds_ahead_of_time() -> None:
    assert builds_ahead(trt_rtx)


def test_an_fp16_graph_becomes_an_engine_that_computes_in_fp16(capfd: pytest.CaptureFixture[str]) -> None:
    engine = built(attention_graph("fp16"), precision="fp16")
    precision = engine.precision
    assert len(engine.engine) > 10_000 and engine.build_seconds > 0
    assert (precision.requested, precision.products, precision.layers) == ("fp16", {"fp16": 1.0}, {"fp16": 1.0})
    assert (precision.attention, precision.attention_fusable) == ({"fp16": 2}, 2)
    assert precision.kernels == {"fp16": 1.0}
    assert precision.attention_fused == 2
    assert engine.timing_cache is None and engine.notes == ()
    assert capfd.readouterr() == ("", "")


def test_fp32_attention_is_fused_by_no_kernel() -> None:
    precision = built(attention_graph("fp32")).precision
    assert precision.products == precision.layers == precision.kernels == {"fp32": 1.0}
    assert (precision.attention, precision.attention_fusable, precision.attention_fused) == ({"fp32": 2}, 0, 0)


def test_a_softmax_in_fp32_leaves_fp16_attention_fused() -> None:
    precision = built(attention_graph("fp16", softmax="fp32"), precision="fp16").precision
    assert precision.layers["fp32"] == pytest.approx(1 / 7)
    assert (precision.attention_fusable, precision.attention_fused) == (2, 2)


def test_linear_layers_with_q_and_dq_become_int8_kernels_in_an_fp16_graph() -> None:
    precision = built(attention_graph("fp16", quantized=True), precision="int8").precision
    assert precision.products == {"int8": 1.0}
    assert precision.weight_bytes["int8"] == 32 * 32  # stored once, though two steps use it
    assert precision.kernels["int8"] > 0.2 and "fp32" not in precision.kernels


@pytest.mark.parametrize(
    "graph, asked, says",
    [
        ({"precision": "fp32"}, "fp16", "asked for fp16, but of its weights the network multiplies 100 % fp32"),
        ({"precision": "fp32"}, "int8", "asked for int8, but of its weights the network multiplies 100 % fp32"),
        ({"precision": "fp16"}, "fp32", "asked for fp32, but of its weights the network multiplies 100 % fp16"),
        ({"precision": "fp16"}, "bf16", "asked for bf16, but of its weights the network multiplies 100 % fp16"),
        ({"precision": "fp32", "quantized": True}, "int8", "100 % of the layers beside its products compute in fp32"),
    ],
)
def test_a_planted_mismatch_is_found_before_anything_is_built(
    graph: dict[str, Any], asked: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt_rtx.Builder, "build_serialized_network", None)
    with pytest.raises(CheckFailed, match=says) as caught:
        built(attention_graph(**graph), precision=asked)
    assert caught.value.exit_status == 1


def test_the_same_graph_gives_the_same_engine() -> None:
    assert built(attention_graph("fp32")).engine == built(attention_graph("fp32")).engine


def test_what_the_parser_does_not_take_is_named_by_its_node() -> None:
    with pytest.raises(InputError, match=r"^tensorrt_rtx .* cannot read the graph: head/Foretell \(Foretell\): "):
        built(foreign_graph())


@pytest.mark.parametrize("data", [b"", b"no graph", attention_graph()[:500]])
def test_what_is_no_graph_is_one_line(data: bytes) -> None:
    with pytest.raises(InputError, match=r"tensorrt_rtx .* (cannot read the graph|built no engine): ") as caught:
        built(data)
    assert "\n" not in str(caught.value)


def test_why_nothing_was_built_is_said_in_the_librarys_words() -> None:
    with pytest.raises(InputError, match=r"tensorrt_rtx .* built no engine: .*Turing \(SM75\): FP32 GEMM is not supp"):
        built(attention_graph("fp32"), capabilities=("7.5",))


def test_compute_capabilities_are_chosen_and_unknown_ones_refused() -> None:
    assert built(attention_graph(), precision="fp16", capabilities=("8.6", "12.0")).engine
    with pytest.raises(InputError, match=r"no compute capability 8\.7; it knows 7\.5, 8\.0, 8\.6, 8\.9, 12\.0, 12\.1"):
        built(attention_graph(), precision="fp16", capabilities=("8.7",))


def test_the_workspace_is_limited() -> None:
    assert built(attention_graph("fp32"), workspace_bytes=2**26).engine


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"timing_cache": b""}, "has no timing cache"),
        ({"hardware_compatibility": "ampere+"}, "has no hardware compatibility"),
        ({"version_compatible": True}, "has no version compatibility"),
    ],
)
def test_what_only_a_build_on_the_device_has_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        built(attention_graph("fp32"), **settings)


def test_progress_is_told_in_the_calling_thread_and_never_falls() -> None:
    seen: list[BuildProgress] = []
    threads = set()

    def watch(progress: BuildProgress) -> bool:
        seen.append(progress)
        threads.add(threading.current_thread())
        return True

    build_engine(attention_graph("fp32"), trt_rtx, EngineSettings(), watch)
    shares = [progress.done for progress in seen]
    assert shares and shares == sorted(shares) and 0 <= shares[0] and shares[-1] <= 1
    assert all(progress.doing for progress in seen)
    assert threads == {threading.current_thread()}


def test_a_build_is_cancelled_by_its_progress() -> None:
    with pytest.raises(InputError, match="built no engine: it was cancelled"):
        build_engine(attention_graph("fp32"), trt_rtx, EngineSettings(), lambda progress: False)


def test_ctrl_c_stops_the_build_and_is_passed_on() -> None:
    def interrupt(progress: BuildProgress) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(attention_graph("fp32"), trt_rtx, EngineSettings(), interrupt)
    deadline = time.monotonic() + 30
    while any(thread.name == "build" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the build goes on"
        time.sleep(0.01)
