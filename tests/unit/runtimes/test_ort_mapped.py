from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgevit.bundle import GRAPH_NAME, Bundle, device_dir
from edgevit.errors import InputError
from edgevit.runtimes import ort_loading
from edgevit.runtimes.ort import OrtRunner
from edgevit.runtimes.ort_mapped import MappedWeights

onnxruntime = pytest.importorskip("onnxruntime", reason="weights are packed by onnxruntime")
onnx = pytest.importorskip("onnx", reason="the graphs are built with onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

WIDTH = 600  # squared, in float32, more than the smallest graph that is worth it
IMAGE = np.random.default_rng(5).standard_normal((1, 3, 2, 100), dtype=np.float32)


def graph_with_branches() -> bytes:
    """One weight, used before, and in either branch of, a choice between twice and thrice."""
    weight = np.random.default_rng(6).standard_normal((WIDTH, WIDTH), dtype=np.float32) / WIDTH

    def branch(name: str, times: float) -> onnx.GraphProto:
        nodes = [
            helper.make_node("MatMul", ["first", "weight"], [f"{name}_product"]),
            helper.make_node("Mul", [f"{name}_product", f"{name}_times"], [f"{name}_out"]),
        ]
        out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, [1, WIDTH])
        return helper.make_graph(nodes, name, [], [out], [numpy_helper.from_array(np.float32(times), f"{name}_times")])

    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["first"]),
        helper.make_node("ReduceMax", ["flat"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "limit"], ["bright"]),
        helper.make_node("If", ["bright"], ["chosen"], then_branch=branch("two", 2), else_branch=branch("three", 3)),
        helper.make_node("Add", ["chosen", "first"], ["logits"]),
    ]
    ends = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, IMAGE.shape),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, WIDTH]),
    ]
    constants = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.float32(0), "limit")]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def model() -> bytes:
    return graph_with_branches()


@pytest.fixture
def bundle(make_bundle, model) -> Bundle:
    return make_bundle(model)


def runner_of(bundle: Bundle, **arguments) -> OrtRunner:
    return OrtRunner(lambda: bundle.read(GRAPH_NAME), threads=1, weights=MappedWeights(bundle), **arguments)


def answer(runner: OrtRunner, image: np.ndarray = IMAGE) -> tuple[np.ndarray, str]:
    with runner:
        return runner(image)["logits"], str(runner.facts["weights"])


def files(bundle: Bundle) -> dict[str, tuple[int, bytes]]:
    folder = device_dir(bundle)
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()} if folder.exists() else {}


def packed_file(bundle: Bundle) -> Path:
    (path,) = device_dir(bundle).glob("ort-weights-*.bin")
    return path


def test_mapped_weights_give_the_answer_of_packed_ones_to_the_last_bit_in_either_branch(bundle, model):
    with OrtRunner(model, threads=1) as plain:
        wanted = [plain(image)["logits"] for image in (IMAGE, -np.abs(IMAGE))]
    for start in ("first", "second"):
        with runner_of(bundle) as runner:
            assert runner.facts["weights"] == ort_loading.MAPPED, start
            for image, logits in zip((IMAGE, -np.abs(IMAGE)), wanted, strict=True):
                np.testing.assert_array_equal(runner(image)["logits"], logits)


def test_what_was_packed_is_what_is_multiplied_by(bundle):
    """Or the file would be there, and each session still pack a copy of its own."""
    answer(runner_of(bundle))
    path = packed_file(bundle)
    data = path.read_bytes()
    raw = WIDTH * WIDTH * 4
    begin = -(-raw // 4096) * 4096  # the packed weight stands behind the plain one, on the next page
    if len(data) < begin + raw:
        pytest.skip("this onnxruntime packs nothing on this processor, or does not save it")
    path.write_bytes(data[:begin] + bytes(len(data) - begin))
    found = json.loads((device_dir(bundle) / "ort-weights.json").read_bytes())
    graph = (device_dir(bundle) / f"ort-weights-{found['graph']['sha256'][:16]}.onnx").read_bytes()
    session = ort_loading.new_session(graph, ["CPUExecutionProvider"], 1, weights_folder=device_dir(bundle))
    (logits,) = session.run(None, {"image": IMAGE})
    assert not logits.any()


def test_the_second_runner_neither_reads_the_graph_nor_writes_anything(bundle):
    first, _ = answer(runner_of(bundle))
    before = files(bundle)

    def refuse() -> bytes:
        raise AssertionError("the graph was read")

    with OrtRunner(refuse, threads=1, weights=MappedWeights(bundle)) as runner:
        np.testing.assert_array_equal(runner(IMAGE)["logits"], first)
    assert files(bundle) == before


def test_constants_can_be_set_in_a_graph_with_mapped_weights(bundle, model):
    limit = {"limit": np.array(99, np.float32)}
    with OrtRunner(model, threads=1, initializers=limit) as plain:
        wanted = plain(IMAGE)["logits"]
    for _ in range(2):
        logits, how = answer(runner_of(bundle, initializers=limit))
        np.testing.assert_array_equal(logits, wanted)
        assert how == ort_loading.MAPPED
    assert not np.array_equal(wanted, answer(runner_of(bundle))[0])


def test_a_weight_itself_can_be_set(bundle):
    logits, _ = answer(runner_of(bundle, initializers={"weight": np.zeros((WIDTH, WIDTH), np.float32)}))
    assert not logits.any()


def test_a_constant_that_is_not_there_is_an_error_with_mapped_weights_too(bundle):
    with pytest.raises(InputError, match="has no constant 'limits'"), runner_of(bundle, initializers={"limits": IMAGE}):
        pass


@pytest.mark.parametrize("pattern", ["ort-weights.json", "ort-weights-*.onnx", "ort-weights-*.bin"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-2]),
        lambda path: path.write_bytes(path.read_bytes()[:-9] + b"\x00\x01" + path.read_bytes()[-7:]),
        lambda path: path.write_bytes(path.read_bytes() + b" more"),
        lambda path: (path.rename(path.with_suffix(".away")), path.symlink_to(path.with_suffix(".away"))),
    ],
    ids=["gone", "empty", "truncated", "changed", "longer", "a link"],
)
def test_a_damaged_file_is_never_loaded_but_made_again(bundle, pattern, damage):
    wanted, _ = answer(runner_of(bundle))
    before = {name: data for name, (_, data) in files(bundle).items()}
    (path,) = device_dir(bundle).glob(pattern)
    damage(path)
    logits, how = answer(runner_of(bundle))
    np.testing.assert_array_equal(logits, wanted)
    assert how == ort_loading.MAPPED
    after = {name: data for name, (_, data) in files(bundle).items() if not name.endswith(".away")}
    assert after == before
    assert not any(path.is_symlink() for path in device_dir(bundle).iterdir())


def test_files_of_another_bundle_library_or_processor_are_not_used(bundle):
    answer(runner_of(bundle))
    library = ort_loading.library_build()
    assert MappedWeights(bundle).find(library) is not None
    assert MappedWeights(bundle).find(f"{library}, patched") is None
    assert MappedWeights(bundle, processor="another").find(library) is None
    assert MappedWeights(dataclasses.replace(bundle, digest="0" * 64)).find(library) is None


def test_files_of_before_are_deleted_when_others_are_made_and_those_of_others_are_left(bundle, model):
    answer(runner_of(bundle))
    (device_dir(bundle) / "tensorrt.json").write_text("an engine's")
    before = set(files(bundle))
    MappedWeights(bundle).store("another library", model, {})
    after = set(files(bundle))
    assert len(after) == len(before)
    assert before & after == {"ort-weights.json", "tensorrt.json"}


def test_a_folder_that_cannot_be_written_is_said_and_the_bundle_runs(bundle, model, monkeypatch):
    """Said to be so rather than made so: whoever runs the tests as root may write everywhere."""
    asked = []
    monkeypatch.setattr("os.access", lambda path, mode: asked.append(path))
    logits, how = answer(runner_of(bundle))
    assert how == "in memory: the folder beside the bundle cannot be written"
    assert asked == [bundle.path.parent]
    assert not device_dir(bundle).exists()
    with OrtRunner(model, threads=1) as plain:
        np.testing.assert_array_equal(logits, plain(IMAGE)["logits"])


def test_the_graph_is_read_once_where_its_weights_cannot_be_mapped(bundle, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    reads = []

    def read() -> bytes:
        reads.append(GRAPH_NAME)
        return bundle.read(GRAPH_NAME)

    with OrtRunner(read, threads=1, weights=MappedWeights(bundle)):
        assert reads == [GRAPH_NAME]


def test_a_file_in_the_place_of_the_folder_is_said_and_the_bundle_runs(bundle):
    device_dir(bundle).write_text("in the way")
    _, how = answer(runner_of(bundle))
    assert how.startswith("in memory: ")
    assert device_dir(bundle).read_text() == "in the way"


def test_weights_that_are_there_are_used_where_nothing_can_be_written(bundle, monkeypatch):
    answer(runner_of(bundle))
    monkeypatch.setattr("edgevit.runtimes.ort_mapped.atomic_write", None)
    assert answer(runner_of(bundle))[1] == ort_loading.MAPPED


def test_a_disk_that_fills_up_leaves_nothing_behind_and_the_bundle_runs(bundle, monkeypatch):
    from edgevit.runtimes import ort_mapped

    write = ort_mapped.atomic_write

    def fill(path, data):
        if path.suffix == ".json":
            raise InputError(f"{path}: cannot be written (No space left on device)")
        write(path, data)

    monkeypatch.setattr(ort_mapped, "atomic_write", fill)
    assert "No space left" in answer(runner_of(bundle))[1]
    assert not device_dir(bundle).exists()


def test_mapped_weights_that_answer_otherwise_are_not_used(bundle, monkeypatch):
    store = MappedWeights.store

    def spoilt(self, library, model, packed):
        wrong = {name: [(key, [bytes(len(b)) for b in bs]) for key, bs in ways] for name, ways in packed.items()}
        return store(self, library, model, wrong)

    monkeypatch.setattr(MappedWeights, "store", spoilt)
    logits, how = answer(runner_of(bundle))
    assert how == "in memory: mapped weights gave another answer"
    assert logits.any()
    assert files(bundle) == {}


def test_a_small_graph_is_left_in_memory(make_bundle, make_model):
    bundle = make_bundle(make_model())
    with runner_of(bundle) as runner:
        assert runner.facts["weights"] == "in memory: the graph is small"
    assert not device_dir(bundle).exists()


def test_a_profile_is_of_the_graph_with_mapped_weights(bundle):
    with runner_of(bundle) as runner:
        operators = [time.operator for time in runner.profile([IMAGE])]
    assert any("MatMul" in operator or "Gemm" in operator for operator in operators)


def test_a_bundle_that_was_copied_with_its_folder_uses_what_is_there(bundle, tmp_path):
    answer(runner_of(bundle))
    away = tmp_path / "elsewhere" / bundle.path.name
    shutil.copytree(bundle.path, away)
    shutil.copytree(device_dir(bundle), device_dir(Bundle.open(away)))
    assert MappedWeights(Bundle.open(away)).find(ort_loading.library_build()) is not None


def test_a_graph_without_weights_is_said_and_runs(make_bundle, make_model, monkeypatch):
    monkeypatch.setattr(ort_loading, "_SMALLEST_BYTES", 0)
    bundle = make_bundle(make_model())
    with runner_of(bundle) as runner:
        assert runner.facts["weights"] == "in memory: the graph has no weights of a size that is worth a file"
    assert files(bundle) == {}
