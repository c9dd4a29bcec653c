from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevit.errors import CheckFailed, InputError
from edgevit.runtimes.session import Session, _softmax, load
from edgevit.spec import TensorSpec


@pytest.fixture
def session(make_bundle, brightness_runner):
    bundle = make_bundle()
    with Session(bundle, brightness_runner(bundle.manifest)) as session:
        yield session


def test_a_picture_gets_label_score_and_probabilities(session, grey):
    prediction = session.predict(grey(255))
    assert prediction.label == "bright"
    assert prediction.score == prediction.probabilities["bright"] == max(prediction.probabilities.values())
    assert list(prediction.probabilities) == ["dark", "middle", "bright"] == list(session.labels)
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction.image is None


def test_a_file_a_picture_and_an_array_get_the_same_answer(session, grey, tmp_path):
    path = tmp_path / "part.png"
    Image.fromarray(grey(128)).save(path)
    sources = [path, str(path), Image.fromarray(grey(128)), grey(128)]
    predictions = [session.predict(source) for source in sources]
    assert [prediction.image for prediction in predictions] == [str(path), str(path), None, None]
    answers = [{**prediction.to_dict(), "image": None} for prediction in predictions]
    assert answers[0]["label"] == "middle"
    assert answers == [answers[0]] * 4


def test_the_trace_is_the_grid_of_depths(session, grey):
    trace = session.predict(grey(255)).routing
    np.testing.assert_array_equal(trace.depth, [[1, 3, 1], [1, 1, 1]])
    assert trace.depth.dtype == np.int32
    assert trace.counts == (6, 1, 1)
    assert session.predict(grey(0)).routing.counts == (6, 0, 0)


def test_there_is_no_trace_where_the_graph_gives_none(make_bundle, brightness_runner, grey):
    bundle = make_bundle(routed=False)
    with Session(bundle, brightness_runner(bundle.manifest)) as session:
        assert session.predict(grey(255)).routing is None


def test_merged_patches_have_the_depth_of_their_token_and_dropped_ones_none(make_bundle, brightness_runner, grey):
    bundle = make_bundle(merged=True)
    with Session(bundle, brightness_runner(bundle.manifest)) as session:
        prediction = session.predict(grey(255))
    np.testing.assert_array_equal(prediction.merging.assignment, [[2, 0, 1], [1, 3, -1]])
    assert prediction.merging.tokens == (4,)
    np.testing.assert_array_equal(prediction.routing.depth, [[1, 1, 3], [3, 1, 0]])  # token 1 went on
    assert prediction.routing.counts == (4, 1, 1)


@pytest.mark.parametrize("batch", [1, 3])
def test_merging_without_routing_is_traced_for_every_picture(make_bundle, brightness_runner, grey, batch):
    bundle = make_bundle(merged=True, routed=False, batch=batch)
    with Session(bundle, brightness_runner(bundle.manifest)) as session:
        for prediction in session.predict([grey(255)] * 4):
            assert prediction.routing is None
            assert prediction.merging.assignment.dtype == np.int32
            np.testing.assert_array_equal(prediction.merging.assignment, [[2, 0, 1], [1, 3, -1]])


def test_without_its_trace_nothing_is_known_of_routing_or_merging(make_bundle, brightness_runner, grey):
    bundle = make_bundle(merged=True, trace=False)
    with Session(bundle, brightness_runner(bundle.manifest)) as session:
        prediction = session.predict(grey(255))
    assert prediction.routing is None and prediction.merging is None


def test_timings_add_up(session, grey):
    timings = session.predict(grey(1)).timings
    assert 0 < timings.preprocess_ns
    assert 0 < timings.run_ns
    assert timings.preprocess_ns + timings.run_ns < timings.total_ns


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_of_any_length_go_through_whatever_the_batch(make_bundle, brightness_runner, grey, batch, kind):
    bundle = make_bundle(batch=batch)
    with Session(bundle, runner := brightness_runner(bundle.manifest)) as session:
        for count in range(8):
            values = [40 * index for index in range(count)]
            runner.batches.clear()
            predictions = session.predict(kind(grey(value) for value in values))
            assert [p.routing.depth.max() for p in predictions] == [min(int(v / 255 * 3) + 1, 3) for v in values]
            assert [p.to_dict() for p in predictions] == [session.predict(grey(v)).to_dict() for v in values]
            assert len(runner.batches) == -(-count // batch) + count


def test_a_batch_that_is_not_full_repeats_its_last_picture(make_bundle, brightness_runner, grey):
    bundle = make_bundle(batch=3)
    with Session(bundle, runner := brightness_runner(bundle.manifest)) as session:
        session.predict([grey(0), grey(255)])
        session.predict(grey(128))
    np.testing.assert_allclose(runner.batches[0].mean(axis=(1, 2, 3)), [0, 1, 1])
    np.testing.assert_allclose(runner.batches[1].mean(axis=(1, 2, 3)), [128 / 255] * 3, rtol=1e-6)


def test_a_picture_that_is_refused_leaves_the_session_working(session, grey, tmp_path):
    (tmp_path / "empty.png").touch()
    for bad in (tmp_path / "empty.png", np.zeros((8, 8), np.uint8), 7, None, [grey(1), "no such file.png"]):
        with pytest.raises(InputError):
            session.predict(bad)
    assert session.predict(grey(255)).label == "bright"


def test_threads_at_once_get_what_each_would_get_alone(make_bundle, make_model):
    pytest.importorskip("onnxruntime", reason="real calls that can overlap")
    pictures = [np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8) for seed in range(8)]
    with load(make_bundle(make_model(), routed=False), threads=1) as session:
        alone = [session.predict(picture).to_dict() for picture in pictures]
        with ThreadPoolExecutor(max_workers=4) as pool:
            together = list(pool.map(session.predict, pictures * 16))
    assert [prediction.to_dict() for prediction in together] == alone * 16
    assert len({prediction["score"] for prediction in alone}) == len(pictures)


def test_leaving_the_block_leaves_the_runner_once_however_often_it_is_closed(make_bundle, brightness_runner, grey):
    bundle = make_bundle()
    runner = brightness_runner(bundle.manifest)
    with Session(bundle, runner) as session:
        assert runner.entered == 1
        session.close()
        assert runner.left == 1
    session.close()
    assert (runner.entered, runner.left) == (1, 1)


def test_a_closed_session_says_so_in_one_line(session, grey):
    session.close()
    for images in (grey(1), [grey(1)], []):
        with pytest.raises(InputError, match="is closed; load the bundle again") as refusal:
            session.predict(images)
        assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"input": TensorSpec("image", "float32", (1, 3, 9, 8))},
        {"outputs": (TensorSpec("logits", "float32", (1, 4)),)},
    ],
    ids=["input", "outputs"],
)
def test_a_graph_that_is_not_the_manifests_is_refused_and_left(make_bundle, brightness_runner, change):
    bundle = make_bundle(routed=False)
    runner = brightness_runner(bundle.manifest)
    for name, value in change.items():
        setattr(runner, name, value)
    with pytest.raises(InputError, match=r"the graph has image: .*, the manifest image: .* 1 x 3 x 8 x 8; logits"):
        Session(bundle, runner)
    assert (runner.entered, runner.left) == (1, 1)


def test_a_trace_of_another_shape_than_the_routing_is_refused_before_anything_is_loaded(make_bundle, brightness_runner):
    bundle = make_bundle()
    routing = dataclasses.replace(bundle.manifest.routing, grid=(2, 2), capacities=(), tokens=4)
    bundle = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, routing=routing))
    runner = brightness_runner(bundle.manifest)
    with pytest.raises(InputError, match=r"output depth is \(1, 6\), its routing makes it \(1, 4\)"):
        Session(bundle, runner)
    assert runner.entered == 0


@pytest.mark.parametrize(
    "change, problem",
    [
        ({"shape": (1, 5)}, r"output assignment is \(1, 5\), its reduction makes it \(1, 6\)"),
        ({"name": "assigned"}, "output depth is of merged tokens and there is no output assignment"),
    ],
)
def test_merged_tokens_that_cannot_be_led_back_to_patches_are_refused(make_bundle, brightness_runner, change, problem):
    bundle = make_bundle(merged=True)
    *others, assignment = bundle.manifest.outputs
    outputs = (*others, dataclasses.replace(assignment, **change))
    bundle = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, outputs=outputs))
    with pytest.raises(InputError, match=problem):
        Session(bundle, brightness_runner(bundle.manifest))


@pytest.mark.parametrize("token", [4, -2])
@pytest.mark.parametrize("routed", [True, False])
def test_a_patch_in_a_token_that_there_is_not_is_a_failed_check(make_bundle, brightness_runner, grey, token, routed):
    bundle = make_bundle(merged=True, routed=routed)
    with Session(bundle, brightness_runner(bundle.manifest)) as session:
        answer = session.runner(np.zeros((1, 3, 8, 8), np.float32))
        answer["assignment"][0, 2] = token
        session.runner = lambda image: answer
        with pytest.raises(CheckFailed, match="a token that it has not; run edgevit verify"):
            session.predict(grey(1))


@pytest.mark.parametrize("values", [[0, np.nan, 0], [np.inf, 0, 0], [0, -np.inf, 0], [np.inf, -np.inf, 0]])
def test_logits_that_are_not_finite_are_a_failed_check_and_not_a_label(session, grey, monkeypatch, values):
    answer = session.runner(np.zeros((1, 3, 8, 8), np.float32))
    answer["logits"][0] = values
    monkeypatch.setattr(type(session.runner), "__call__", lambda runner, image: answer)
    with pytest.raises(CheckFailed, match="not finite; run edgevit verify"):
        session.predict(grey(1))


@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=9))
def test_probabilities_sum_to_one_and_the_largest_logit_has_the_largest(logits):
    probabilities = _softmax(logits)
    assert sum(probabilities) == pytest.approx(1)
    assert probabilities[logits.index(max(logits))] == max(probabilities)


def test_probabilities_are_those_of_the_definition():
    powers = np.exp([1.0, -2.0, 0.5])
    assert _softmax([1.0, -2.0, 0.5]) == pytest.approx((powers / powers.sum()).tolist(), rel=1e-12)


def test_of_logits_too_close_for_their_probabilities_the_larger_decides(session, grey, monkeypatch):
    logits = np.array([[0.0, 1e-30, -1.0]], np.float32)
    answer = {**session.runner(np.zeros((1, 3, 8, 8), np.float32)), "logits": logits}
    monkeypatch.setattr(type(session.runner), "__call__", lambda runner, image: answer)
    prediction = session.predict(grey(1))
    assert prediction.probabilities["dark"] == prediction.probabilities["middle"]
    assert prediction.label == "middle"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_pictures_of_any_size_are_taken(session, height, width):
    assert session.predict(np.full((height, width, 3), 255, np.uint8)).label == "bright"


def test_load_takes_a_path_or_a_bundle_and_the_null_runtime(make_bundle, grey):
    bundle = make_bundle()
    for source in (bundle, bundle.path, str(bundle.path)):
        with load(source, runtime="null") as session:
            prediction = session.predict(grey(255))
        assert session.bundle.digest == bundle.digest
        assert prediction.label == "dark"  # of equal logits the first
        assert prediction.score == pytest.approx(1 / 3)


def test_a_bundle_whose_graph_is_damaged_does_not_load(make_bundle):
    pytest.importorskip("onnxruntime", reason="the runtime of target cpu-x86")
    with pytest.raises(InputError, match="cannot load the graph"):
        load(make_bundle(b"no graph"))


def test_load_of_nothing_names_the_path():
    with pytest.raises(InputError, match="no such folder"):
        load(Path("nowhere"))
