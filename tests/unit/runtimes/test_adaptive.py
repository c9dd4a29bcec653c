"""The choice of a budget, over stages that say which of them ran."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import CheckFailed, InputError
from edgevit.probes import LayerProfiler, LayerTime
from edgevit.runtimes.adaptive import AdaptiveRunner, ProfiledAdaptiveRunner
from edgevit.spec import TensorSpec

IMAGE = TensorSpec("image", "float32", (2, 3, 2, 2))
STATE, ACTIVE = TensorSpec("state", "float32", (2, 12)), TensorSpec("active", "int32", (2,))
LOGITS, DEPTH = TensorSpec("logits", "float32", (2, 1)), TensorSpec("depth", "int32", (2, 16))
BUDGETS = (0, 4, 16)


class First:
    """A first stage: the first number of an image is how many of its tokens are active."""

    input = IMAGE

    def __init__(self, *outputs: TensorSpec) -> None:
        self.outputs = outputs or (STATE, ACTIVE)
        self.facts: dict[str, str | int] = {"runtime": "fake", "version": "1", "weights": "mapped"}
        self.inside = False

    def __enter__(self) -> First:
        self.inside = True
        return self

    def __exit__(self, *error: object) -> None:
        self.inside = False

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        return {"state": image.reshape(STATE.shape), "active": image[:, 0, 0, 0].astype(np.int32)}

    def profile(self, batches: Sequence[np.ndarray]) -> list[LayerTime]:
        return [LayerTime("patch_embed", "Conv", query, 5) for query in range(len(batches))]


class Rest(First):
    """A later stage, whose logits are its budget."""

    input = STATE

    def __init__(self, budget: int, *, outputs: Sequence[TensorSpec] = (LOGITS, DEPTH)) -> None:
        super().__init__(*outputs)
        self.budget = budget
        self.facts |= {"weights": "in memory"}

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": np.full(LOGITS.shape, self.budget, np.float32), "depth": np.ones(DEPTH.shape, np.int32)}

    def profile(self, batches: Sequence[np.ndarray]) -> list[LayerTime]:
        return [LayerTime(f"blocks@{self.budget}", "MatMul", query, int(state[0, 0])) for query, state in
                enumerate(batches)]  # fmt: skip


class BrokenRest(Rest):
    def __enter__(self) -> BrokenRest:
        raise InputError("no memory left")


def stages(budgets: Sequence[int] = BUDGETS) -> tuple[First, dict[int, Rest]]:
    return First(), {budget: Rest(budget) for budget in budgets}


def picture(*active: int) -> np.ndarray:
    image = np.zeros(IMAGE.shape, np.float32)
    image[:, 0, 0, 0] = active
    return image


def budget_of(runner: AdaptiveRunner[First], *active: int) -> int:
    return int(runner(picture(*active))["logits"][0, 0])


@given(active=st.tuples(st.integers(0, 16), st.integers(0, 16)), least=st.integers(0, 16))
def test_a_batch_runs_in_the_smallest_budget_with_room_for_its_fullest_image(active, least):
    first, rests = stages()
    with AdaptiveRunner(first, rests, least=least) as runner:
        ran = budget_of(runner, *active)
    room = [budget for budget in BUDGETS if budget >= max(*active, least)]
    assert ran == min(room)


@pytest.mark.parametrize("active, budget", [((0, 0), 0), ((0, 1), 4), ((4, 0), 4), ((5, 4), 16), ((0, 16), 16)])
def test_a_budget_holds_just_as_many_as_its_name_says(active, budget):
    first, rests = stages(BUDGETS[::-1])  # in whatever order they come
    with AdaptiveRunner(first, rests) as runner:
        assert budget_of(runner, *active) == budget


def test_more_active_tokens_than_any_budget_holds_are_no_answer():
    first, rests = stages()
    with AdaptiveRunner(first, rests) as runner:
        with pytest.raises(CheckFailed, match="17 tokens are active, budgets 0, 4, 16 have no room for them"):
            runner(picture(0, 17))
        assert budget_of(runner, 0, 16) == 16


@pytest.mark.parametrize("budgets, least", [((), 0), (BUDGETS, 17), (BUDGETS, -1)])
def test_room_that_no_budget_has_is_refused_before_anything_is_loaded(budgets, least):
    first, rests = stages(budgets)
    with pytest.raises(InputError, match=rf"got room for {least} tokens at least, wanted one that budgets"):
        AdaptiveRunner(first, rests, least=least)


def test_facts_are_those_of_all_stages_and_the_budgets():
    first, rests = stages()
    with AdaptiveRunner(first, rests) as runner:
        assert runner.facts == {
            "runtime": "fake",
            "version": "1",
            "weights": "mapped; in memory",
            "budgets": "0, 4, 16",
        }
    with AdaptiveRunner(first, rests, least=3) as runner:
        assert runner.facts["budget_at_least"] == 3


def test_all_stages_are_left_with_it():
    first, rests = stages()
    with AdaptiveRunner(first, rests):
        assert all(stage.inside for stage in (first, *rests.values()))
    assert not any(stage.inside for stage in (first, *rests.values()))


def test_a_stage_that_does_not_load_leaves_none_of_them_loaded():
    first, rests = stages()
    with pytest.raises(InputError, match="no memory left"), AdaptiveRunner(first, rests | {8: BrokenRest(8)}):
        pass
    assert not any(stage.inside for stage in (first, *rests.values()))


class OtherInput(Rest):
    input = TensorSpec("state", "float32", (2, 11))


@pytest.mark.parametrize(
    "first, rest, wanted",
    [
        (First(LOGITS), Rest(16), "got a first stage with logits: float32 2 x 1, wanted state and active"),
        (First(), OtherInput(4), "got state: float32 2 x 12, and for budget 4 wanted state: float32 2 x 11"),
        (First(), Rest(4, outputs=[LOGITS]), "got for budget 4 logits: float32 2 x 1, wanted logits: .*, depth: .*"),
    ],
)
def test_stages_of_different_graphs_are_one_line_and_left_again(first, rest, wanted):
    rests = {4: rest, 16: Rest(16)}
    with pytest.raises(InputError, match=wanted) as refusal, AdaptiveRunner(first, rests):
        pass
    assert len(str(refusal.value).splitlines()) == 1
    assert not any(stage.inside for stage in (first, *rests.values()))


def test_budgets_without_room_for_every_token_are_refused():
    first, rests = stages((0, 4))
    with pytest.raises(InputError, match="got budgets 0, 4, wanted one with room for all 16 tokens"):
        AdaptiveRunner(first, rests).__enter__()


def test_the_layers_of_each_picture_are_those_it_ran_through():
    first, rests = stages()
    assert not isinstance(AdaptiveRunner(first, rests), LayerProfiler)
    with ProfiledAdaptiveRunner(first, rests) as runner:
        assert isinstance(runner, LayerProfiler)
        times = runner.profile([picture(0, 0), picture(9, 0), picture(0, 0), picture(3, 1)])
    by_query = [[(time.layer, time.duration_ns) for time in times if time.query == query] for query in range(4)]
    assert by_query == [
        [("patch_embed", 5), ("blocks@0", 0)],
        [("patch_embed", 5), ("blocks@16", 9)],
        [("patch_embed", 5), ("blocks@0", 0)],
        [("patch_embed", 5), ("blocks@4", 3)],
    ]


def test_a_profile_of_another_batch_is_refused():
    first, rests = stages()
    with ProfiledAdaptiveRunner(first, rests) as runner, pytest.raises(InputError, match="wanted image: float32 2 x 3"):
        runner.profile([np.zeros((1, 3, 2, 2), np.float32)])
