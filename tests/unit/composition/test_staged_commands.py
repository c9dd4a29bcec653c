"""Commands over a bundle in stages, of which none may be met by surprise."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgevit import building
from edgevit.bundle import Bundle, device_dir
from edgevit.engine_record import EnginePrecision
from edgevit.engine_store import read_engine
from edgevit.errors import InputError
from edgevit.export import cuda_driver, trt
from edgevit.export.cuda_driver import Device
from edgevit.export.trt_progress import BuildProgress

sys.path.insert(0, str(Path(__file__).parents[2] / "simulated"))
from staged_bundle import BUDGETS, write_staged

pytest.importorskip("onnx", reason="the stages are built with onnx")

GRAPHS = ("enter.onnx", *(f"rest-{budget}.onnx" for budget in BUDGETS))
PRECISION = EnginePrecision(
    requested="fp32", products={"fp32": 1.0}, layers={"fp32": 1.0}, weight_bytes={"fp32": 4}, attention={},
    attention_fusable=0, kernels={}, attention_fused=None,
)  # fmt: skip


@pytest.fixture
def staged(tmp_path: Path) -> Bundle:
    return write_staged(tmp_path / "staged", target="jetson-orin")


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, trt.EngineSettings]]:
    """A machine with an Orin and TensorRT 10.3, whose builds are noted; the engine of a graph is its hash."""
    asked: list[tuple[bytes, trt.EngineSettings]] = []

    def build(onnx: bytes, library: ModuleType, settings: trt.EngineSettings, progress: Any) -> trt.BuiltEngine:
        asked.append((onnx, settings))
        if progress is not None and not progress(BuildProgress(0.5, "time kernels", 8.0)):
            raise InputError("tensorrt 10.3.0 built no engine: it was cancelled")
        timed = None if settings.timing_cache is None else settings.timing_cache + b"timed "
        return trt.BuiltEngine(b"engine of " + onnx[-8:], PRECISION, 2.0, timed, ("a note",))

    module: Any = ModuleType("tensorrt")
    module.__version__, module.Runtime, module.__spec__ = "10.3.0", object, ModuleSpec("tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(trt, "build_engine", build)
    monkeypatch.setattr(cuda_driver, "find_device", lambda: Device("Orin", "8.7", "CUDA 12.6"))
    return asked


def test_every_graph_gets_an_engine_with_a_record_of_its_own(edgevit, staged: Bundle, builds) -> None:
    done = edgevit("build", staged.path)
    assert (done.status, done.err) == (0, "a note\n")
    assert "in 4, which share no weights, built in 8.0 s" in done.out and "rest-6.onnx" in done.out
    assert [onnx for onnx, _ in builds] == [staged.read(graph) for graph in GRAPHS]
    for graph in GRAPHS:
        record, read = read_engine(staged, "tensorrt", graph)
        assert read() == b"engine of " + staged.read(graph)[-8:]
        assert record.onnx_sha256 == staged.manifest.files[graph].sha256
    again = edgevit("build", staged.path)
    assert again.error.endswith("has 4 engines of tensorrt 10.3.0 that took 8 s; use --force to build again")


def test_json_has_each_record_by_its_graph(edgevit, staged: Bundle, builds) -> None:
    assert list(edgevit("build", staged.path, "--json").json) == list(GRAPHS)


def test_all_are_built_again_where_one_is_gone(edgevit, staged: Bundle, builds) -> None:
    assert edgevit("build", staged.path).status == 0
    next(device_dir(staged).glob("tensorrt-rest-2-*.engine")).unlink()
    assert edgevit("build", staged.path).status == 0
    assert len(builds) == 2 * len(GRAPHS)


def test_the_timings_of_one_build_serve_the_next(staged: Bundle, builds, tmp_path: Path) -> None:
    building.build_engines(staged, timing_cache=tmp_path / "timings")
    assert [settings.timing_cache for _, settings in builds] == [b"timed " * count for count in range(4)]
    assert (tmp_path / "timings").read_bytes() == b"timed " * 4


def test_progress_says_which_graph_of_how_many_and_never_falls(staged: Bundle, builds) -> None:
    told: list[BuildProgress] = []
    building.build_engines(staged, report=lambda progress: told.append(progress) or True)
    assert [progress.done for progress in told] == [0.125, 0.375, 0.625, 0.875]
    assert told[1].doing == "rest-0.onnx, 2 of 4: time kernels"
    assert [progress.left_s for progress in told] == [None, None, None, 8.0]


def test_nothing_is_written_before_the_last_engine_is_built(staged: Bundle, builds) -> None:
    answers = iter((True, True, True, False))
    with pytest.raises(InputError, match="it was cancelled"):
        building.build_engines(staged, report=lambda progress: next(answers))
    assert len(builds) == 4 and not device_dir(staged).exists()


def test_real_tensorrt_rtx_builds_them_with_no_gpu(edgevit, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="builds with TensorRT-RTX: pip install 'edgevit[tensorrt-rtx]'")
    bundle = write_staged(tmp_path / "staged", target="rtx")
    done = edgevit("build", bundle.path, "--json")
    assert done.status == 0, done.err
    assert all(len(read_engine(bundle, "tensorrt_rtx", graph)[1]()) > 0 for graph in GRAPHS)


def test_doctor_looks_at_every_graph_and_says_a_finding_once(edgevit, staged: Bundle, monkeypatch) -> None:
    pytest.importorskip("onnx_ir", reason="the graph is looked at with the export extra")
    from edgevit.export import preflight

    def found(graph: bytes, release: preflight.Release) -> tuple[preflight.Finding, ...]:
        everywhere = preflight.Finding(release.name, "slower", "it is slow", (), "wait", "here")
        here = replace(everywhere, says="a node", nodes=("a", "b"))
        return (everywhere, here) if graph != staged.read("enter.onnx") else (everywhere,)

    monkeypatch.setattr(preflight, "preflight", found)
    monkeypatch.setattr("edgevit.commands.doctor_graph.find_spec", lambda name: None)
    slow, node = edgevit("doctor", staged.path, "--target", "jetson-orin", "--json").json["graph"]["findings"]
    assert slow["nodes"] == list(GRAPHS)
    assert node["nodes"] == [f"{graph}: {name}" for graph in GRAPHS[1:] for name in "ab"]


def test_info_says_the_budgets_and_who_chooses(edgevit, staged: Bundle) -> None:
    done = edgevit("info", staged.path)
    assert "0, 2, 6 tokens for all later steps, a graph each, chosen by the host after the first" in done.out


@pytest.mark.parametrize(
    "command, says",
    [
        (("calibrate", "--share", "0.5"), "calibrate an export with --target cpu-x86 and export this one again with"),
        (("bench", "--curve"), "is adaptive in stages, whose budgets take no caps; export it again with --target"),
    ],
)
def test_what_needs_the_one_graph_says_so_in_a_line(edgevit, staged: Bundle, tmp_path: Path, command, says) -> None:
    name, *options = command
    pictures = (tmp_path, "--output", tmp_path / "out") if name == "calibrate" else ()
    done = edgevit(name, staged.path, *pictures, *options)
    assert done.status == 2 and says in done.error


def test_the_one_graph_of_stages_cannot_be_read(staged: Bundle) -> None:
    with pytest.raises(InputError, match="is in stages, wanted one graph; export it again with --target cpu-x86"):
        staged.read("model.onnx")
