"""The contract of edgevit/runner.py, held against every runner that is installed here."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.runner import Runner


def assert_answers_equal(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(got) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-5, atol=1e-5)


def refusal_of(runner: Runner, image: object) -> str:
    """The one line in which the runner refuses the image."""
    with pytest.raises(InputError) as refusal:
        runner(image)
    line = str(refusal.value)
    assert len(line.splitlines()) == 1
    return line


def test_an_entered_runner_satisfies_the_protocol(runner):
    assert isinstance(runner, Runner)


def test_entering_returns_the_runner_itself(case):
    runner = case.make()
    with runner as entered:
        assert entered is runner


def test_the_input_is_a_batch_of_float32_images(runner):
    assert runner.input.name == "image"
    assert runner.input.dtype == "float32"
    assert len(runner.input.shape) == 4 and runner.input.shape[1] == 3


def test_outputs_are_what_was_declared_in_graph_order(runner, images):
    answer = runner(images[0])
    assert list(answer) == [output.name for output in runner.outputs]
    for output in runner.outputs:
        assert type(answer[output.name]) is np.ndarray
        assert answer[output.name].shape == output.shape
        assert answer[output.name].dtype == output.dtype
    assert "logits" in answer


def test_the_answer_is_what_the_graph_computes(case, images):
    with case.make() as runner:
        for image in images:
            assert_answers_equal(runner(image), case.answer(image))


def test_facts_name_runtime_and_version_in_types_that_json_has(runner):
    facts = dict(runner.facts)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["runtime"] and facts["version"]
    assert all(type(value) in (str, int) for value in facts.values())


def test_a_read_only_image_is_taken_and_no_image_is_changed(runner, images):
    image = images[0]
    before = image.copy()
    image.flags.writeable = False
    runner(image)
    np.testing.assert_array_equal(image, before)


def test_the_caller_owns_what_is_returned(case, images):
    with case.make() as runner:
        first = runner(images[0])
        runner(images[1])
        assert_answers_equal(first, case.answer(images[0]))  # a later call did not change it
        for value in first.values():
            value += 1  # and the caller may write to it
        assert_answers_equal(runner(images[0]), case.answer(images[0]))


def test_what_was_returned_outlives_the_runner(case, images):
    with case.make() as runner:
        answer = runner(images[0])
    del runner
    assert_answers_equal(answer, case.answer(images[0]))


@pytest.mark.parametrize("name", ["input", "outputs", "facts"])
def test_a_runner_tells_nothing_of_itself_outside_its_context(case, name):
    runner = case.make()
    with pytest.raises(InputError, match="not loaded"):
        getattr(runner, name)
    with runner:
        getattr(runner, name)
    with pytest.raises(InputError, match="not loaded"):
        getattr(runner, name)


def test_a_call_outside_the_context_is_refused(case, images):
    runner = case.make()
    assert "not loaded" in refusal_of(runner, images[0])
    with runner:
        runner(images[0])
    assert "not loaded" in refusal_of(runner, images[0])


def test_a_runner_may_be_entered_again_after_it_was_left(case, images):
    runner = case.make()
    for image in images[:3]:
        with runner:
            assert_answers_equal(runner(image), case.answer(image))


def test_entering_a_loaded_runner_is_refused_and_does_it_no_harm(case, images):
    with case.make() as runner:
        with pytest.raises(InputError, match="loaded already"), runner:
            pass
        assert_answers_equal(runner(images[0]), case.answer(images[0]))


def test_an_exception_inside_the_context_passes_and_the_runner_is_left(case, images):
    runner = case.make()
    with pytest.raises(KeyError, match="mine"), runner:
        raise KeyError("mine")
    refusal_of(runner, images[0])


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "uint8", "bool", ">f4", "complex64"])
def test_another_dtype_is_refused_in_one_line_that_names_both(runner, images, dtype):
    line = refusal_of(runner, images[0].astype(dtype))
    assert str(np.dtype(dtype)) in line
    assert "float32" in line


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(shape=st.lists(st.integers(0, 5), max_size=5).map(tuple))
def test_another_shape_is_refused_in_one_line_that_names_both(runner, shape):
    if shape == runner.input.shape:
        return
    line = refusal_of(runner, np.zeros(shape, np.float32))
    assert "wanted image: float32 2 x 3 x 4 x 4" in line
    assert f"float32 {' x '.join(map(str, shape))}" in line


def test_an_array_that_is_not_contiguous_is_refused_with_the_remedy(runner, images):
    for view in (images[0][..., ::-1], np.asfortranarray(images[0]), images[0].transpose(0, 1, 3, 2)):
        assert "np.ascontiguousarray" in refusal_of(runner, view)


@pytest.mark.parametrize("thing", [None, 3.0, [[1.0]], "part.png", b""])
def test_what_is_no_array_is_refused(runner, thing):
    assert "wanted a numpy array" in refusal_of(runner, thing)


def test_a_refused_image_leaves_the_runner_working(case, images):
    with case.make() as runner:
        refusal_of(runner, images[0].astype(np.float64))
        assert_answers_equal(runner(images[0]), case.answer(images[0]))


def test_threads_at_once_get_what_each_would_get_alone(runner, images):
    alone = [runner(image) for image in images]
    with ThreadPoolExecutor(max_workers=4) as pool:
        together = list(pool.map(lambda index: runner(images[index % len(images)]), range(16 * len(images))))
    for index, answer in enumerate(together):
        for name, value in alone[index % len(images)].items():
            np.testing.assert_array_equal(answer[name], value)


def test_every_image_has_an_answer_of_its_own_but_from_the_runner_of_zeros(case, images):
    """So that the comparisons above can fail."""
    answers = [case.answer(image)["logits"] for image in images]
    distinct = len({answer.tobytes() for answer in answers})
    assert distinct == (len(images) if answers[0].any() else 1)
