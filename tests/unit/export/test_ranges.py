"""Ranges of a graph's values: against the values themselves, shown one by one and looked at with numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.export.pipeline import Graph
from edgevit.export.ranges import Ranges, measure_ranges
from edgevit.runtimes.ort import OrtRunner


def open_graph(graph: bytes) -> OrtRunner:
    return OrtRunner(graph, threads=1)


def refused(graph: bytes) -> OrtRunner:
    raise AssertionError("nothing should be run")


@pytest.fixture(scope="module")
def tiny(tiny_graph: Callable[[str], Graph]) -> ir.Model:
    return ir.from_proto(onnx.load_from_string(tiny_graph("topk").onnx))


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((1, 3, 32, 32)).astype(np.float32) for _ in range(count)]


def values_of(model: ir.Model, batch: np.ndarray) -> dict[str, np.ndarray]:
    """Every float value of the graph, by making all of them outputs."""
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(model))
    known = {value.name for value in (*proto.graph.output, *proto.graph.initializer)}
    proto.graph.output.extend(
        value
        for value in proto.graph.value_info
        if value.name not in known and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    )
    with open_graph(proto.SerializeToString()) as runner:
        outputs = runner(batch)
    return {name: value for name, value in outputs.items() if value.dtype == np.float32} | {"image": batch}


def test_the_extremes_are_those_of_every_float_value(tiny: ir.Model) -> None:
    batches = pictures(3)
    before = ir.to_proto(tiny).SerializeToString(deterministic=True)
    ranges = measure_ranges(tiny, batches, open_graph)
    assert ir.to_proto(tiny).SerializeToString(deterministic=True) == before, "the model given is not changed"
    shown = [values_of(tiny, batch) for batch in batches]
    assert set(ranges.smallest) == set(ranges.biggest) == set(ranges.largest) == set(shown[0])
    assert ranges.batches == 3
    for name in shown[0]:
        every = np.stack([values[name] for values in shown])
        assert ranges.smallest[name] == pytest.approx(every.min(), rel=1e-4, abs=1e-5), name
        assert ranges.biggest[name] == pytest.approx(every.max(), rel=1e-4, abs=1e-5), name
        assert ranges.largest[name] == pytest.approx(np.abs(every).max(), rel=1e-4, abs=1e-5), name


def test_a_histogram_counts_every_number_of_a_small_value(tiny: ir.Model) -> None:
    batches = pictures(2)
    name = next(node for node in tiny.graph if node.op_type == "Gelu").outputs[0].name
    assert name is not None
    ranges = measure_ranges(tiny, batches, open_graph, histograms={name})
    every = np.abs(np.concatenate([values_of(tiny, batch)[name].ravel() for batch in batches]))
    histogram = ranges.histograms[name]
    assert histogram.counts.sum() == every.size
    assert ranges.clipped(name, 90.0) == pytest.approx(np.quantile(every, 0.9), abs=2 * histogram.width)
    assert ranges.clipped(name, 100.0) == ranges.largest[name], "never beyond the largest number"
    assert 0 < ranges.entropy(name) <= ranges.largest[name]
    assert 0 < ranges.least_error(name) <= ranges.largest[name]


def relu(side: int, channels: int) -> ir.Model:
    """image -> Transpose to channels last -> logits."""
    return ir.from_onnx_text(
        f"""<ir_version: 9, opset_import: ["" : 20]>
        g (float[1,{channels},{side},{side}] image) => (float[1,{side},{side},{channels}] logits) {{
            logits = Transpose<perm = [0, 2, 3, 1]>(image)
        }}"""
    )


def test_of_a_large_value_a_sample_of_bounded_size_is_shown_that_leaves_out_no_channel() -> None:
    side, channels = 96, 16  # 147456 numbers
    image = np.broadcast_to(2.0 ** np.arange(channels, dtype=np.float32)[:, None, None], (channels, side, side))
    ranges = measure_ranges(
        relu(side, channels), [np.ascontiguousarray(image[None])], open_graph, histograms={"logits"}
    )
    counts = ranges.histograms["logits"].counts
    assert 30_000 < counts.sum() <= 2**16
    share = counts[np.flatnonzero(counts)] / counts.sum()
    # The eleven largest powers of two have a bin each; what is smaller lies in the first.
    assert share[-1] == pytest.approx(1 / channels, rel=0.01)
    assert ranges.largest["logits"] == 2.0**15


def test_an_overflow_is_seen_as_one() -> None:
    model = ir.from_onnx_text(
        """<ir_version: 9, opset_import: ["" : 20]>
        g (float[1,1,2,2] image) => (float[1,1,2,2] logits) {
            squares = Mul(image, image)
            logits = Sub(squares, squares)
        }"""
    )
    ranges = measure_ranges(model, [np.full((1, 1, 2, 2), 1e30, np.float32)], open_graph, histograms={"squares"})
    assert ranges.largest["image"] == np.float32(1e30)
    assert ranges.largest["squares"] == np.inf
    assert not np.isfinite(ranges.largest["logits"])


def test_progress_is_told_as_a_share(tiny: ir.Model) -> None:
    told: list[float] = []
    measure_ranges(tiny, pictures(4), open_graph, report=told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]


def test_no_batch_is_refused(tiny: ir.Model) -> None:
    with pytest.raises(InputError, match="no batch"):
        measure_ranges(tiny, [], open_graph)


def test_a_histogram_of_no_value_is_refused(tiny: ir.Model) -> None:
    with pytest.raises(InputError, match="nowhere is no float32 value"):
        measure_ranges(tiny, pictures(1), refused, histograms={"nowhere"})


def test_branches_are_refused() -> None:
    model = ir.from_onnx_text(
        """<ir_version: 9, opset_import: ["" : 20]>
        g (float[1,1,2,2] image) => (float[1,1,2,2] logits) {
            total = ReduceSum<keepdims = 0>(image)
            zero = Constant<value = float {0}>()
            positive = Greater(total, zero)
            logits = If (positive) <
                then_branch = a () => (float[1,1,2,2] y) { y = Abs(image) },
                else_branch = b () => (float[1,1,2,2] z) { z = Neg(image) }
            >
        }"""
    )
    with pytest.raises(InputError, match="If has branches"):
        measure_ranges(model, [np.ones((1, 1, 2, 2), np.float32)], refused)


class Killed(Exception):
    """Somebody stopped the run."""


class Stopping:
    """Batches that are gone through again and again, and end in a kill."""

    def __init__(self, batches: list[np.ndarray], after: int) -> None:
        self.batches, self.after = batches, after

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from self.batches[: self.after]
        raise Killed


class Counting(OrtRunner):
    """Counts what it runs."""

    runs = 0

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        Counting.runs += 1
        return super().__call__(image)


def same(first: Ranges, second: Ranges) -> bool:
    return (
        first.smallest == second.smallest
        and first.biggest == second.biggest
        and first.batches == second.batches
        and all(np.array_equal(first.histograms[name].counts, second.histograms[name].counts)
                for name in first.histograms)
        and first.histograms.keys() == second.histograms.keys()
    )  # fmt: skip


@settings(max_examples=5, deadline=None)
@given(after=st.integers(0, 10))
def test_a_stopped_run_goes_on_where_it_was_saved(after: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    model, state = relu(4, 3), tmp_path_factory.mktemp("state") / "ranges.npz"
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((1, 3, 4, 4)).astype(np.float32) for _ in range(10)]
    whole = measure_ranges(model, batches, open_graph, histograms={"logits"})
    with pytest.raises(Killed):
        measure_ranges(model, Stopping(batches, after), open_graph, histograms={"logits"}, state=state)
    assert state.exists() == (after >= 8)
    notes: list[str] = []
    Counting.runs = 0
    resumed = measure_ranges(model, batches, Counting, histograms={"logits"}, state=state, note=notes.append)
    assert same(whole, resumed)
    assert Counting.runs == (2 if after >= 8 else 10)
    assert notes == []


def test_a_finished_state_needs_no_run(tiny: ir.Model, tmp_path: Path) -> None:
    state = tmp_path / "ranges.npz"
    first = measure_ranges(tiny, pictures(2), open_graph, state=state)
    Counting.runs = 0
    assert same(first, measure_ranges(tiny, pictures(2), Counting, state=state))
    assert Counting.runs == 0


@pytest.mark.parametrize("other", [pictures(2, seed=1), pictures(1), [*pictures(1), *pictures(1, seed=5)]])
def test_a_state_of_other_pictures_is_of_no_use_and_said(
    tiny: ir.Model, tmp_path: Path, other: list[np.ndarray]
) -> None:
    state = tmp_path / "ranges.npz"
    measure_ranges(tiny, pictures(2), open_graph, state=state)
    notes: list[str] = []
    ranges = measure_ranges(tiny, other, open_graph, state=state, note=notes.append)
    assert same(ranges, measure_ranges(tiny, other, open_graph))
    assert notes == [f"{state} holds the ranges of other pictures; measuring anew"]


def test_a_state_of_another_graph_is_of_no_use_and_said(tiny: ir.Model, tmp_path: Path) -> None:
    state = tmp_path / "ranges.npz"
    measure_ranges(relu(32, 3), pictures(1), open_graph, state=state)
    notes: list[str] = []
    assert "logits" in measure_ranges(tiny, pictures(1), open_graph, state=state, note=notes.append).largest
    assert notes == [f"{state} holds the ranges of another graph; measuring anew"]


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data.replace(b"counts", b"c0unts")]
)
def test_a_damaged_state_is_one_line(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    state = tmp_path / "ranges.npz"
    measure_ranges(relu(32, 3), pictures(1), open_graph, state=state)
    state.write_bytes(damage(state.read_bytes()))
    with pytest.raises(InputError, match="not the partial ranges") as caught:
        measure_ranges(relu(32, 3), pictures(1), refused, state=state)
    assert "\n" not in str(caught.value)


def test_batches_of_one_pass_cannot_be_resumed(tiny: ir.Model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone through again"):
        measure_ranges(tiny, iter(pictures(1)), refused, state=tmp_path / "ranges.npz")
