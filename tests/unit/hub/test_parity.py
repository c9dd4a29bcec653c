from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgevit.errors import InputError
from edgevit.parity import Golden, MergedOtherwise, compare
from edgevit.spec import TensorSpec

# Three images, four patches, three steps; patch 0 of image 1 is all but tied at step 2.
DEPTH = np.array([[3, 2, 1, 1], [2, 1, 3, 1], [1, 1, 2, 3]], np.int32)
MARGIN = np.full((3, 2, 4), 0.2, np.float32)
MARGIN[1, 0, 0] = MARGIN[1, 0, 1] = 1e-6
LOGITS = np.array([[2.0, 0.0], [0.0, 1.0], [-1.0, 3.0]], np.float32)
IMAGES = np.arange(3 * 3 * 2 * 2, dtype=np.float32).reshape(3, 3, 2, 2)
GOLDEN = Golden(("a", "b", "c"), IMAGES, LOGITS, DEPTH, MARGIN)


def counts_of(depth: np.ndarray) -> np.ndarray:
    return np.stack([(depth > r).sum(axis=1) for r in range(3)], axis=1).astype(np.int32)


class Scripted:
    """A runner that looks its answer up by image."""

    def __init__(self, batch: int = 1, **changed: np.ndarray) -> None:
        self.input = TensorSpec("image", "float32", (batch, 3, 2, 2))
        self.outputs = ()
        self.facts = {"runtime": "script"}
        depth = changed.get("depth", DEPTH)
        self.answers = {"logits": LOGITS, "depth": depth, "counts": counts_of(depth)} | changed
        self.calls: list[int] = []

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        assert image.shape == self.input.shape
        index = [int(np.flatnonzero((IMAGES == one).all(axis=(1, 2, 3)))[0]) for one in image]
        self.calls += index
        return {name: value[index] for name, value in self.answers.items()}

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None: ...


def changed(values: np.ndarray, *edits: tuple[tuple[int, ...], float]) -> np.ndarray:
    values = values.copy()
    for place, value in edits:
        values[place] = value
    return values


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_an_equal_artefact_passes_whatever_its_batch(batch: int) -> None:
    seen: list[int] = []
    runner = Scripted(batch)
    parity = compare(GOLDEN, runner, 1e-4, 0, seen.append)
    assert parity.passed
    assert (parity.inputs, parity.decisions_agreeing, parity.tokens_agreeing) == (3, 3, (1.0, 1.0))
    assert (parity.largest_difference, parity.near_ties) == (0, ())
    assert set(runner.calls) == {0, 1, 2}
    assert seen[-1] == 3


def test_logits_beyond_the_tolerance_are_a_fault_of_that_image() -> None:
    parity = compare(GOLDEN, Scripted(logits=changed(LOGITS, ((2, 1), 3.01))), 1e-4, 1e-4)
    assert len(parity.faults) == 1
    assert parity.faults[0].startswith("c: logits differ by 1.00e-02")


@pytest.mark.parametrize(
    "other",
    [
        {"logits": LOGITS[:, :1]},  # would broadcast against both classes
        {"depth": DEPTH[:, :1]},
        {"depth": DEPTH[:, :3]},
    ],
)
def test_an_artefact_of_other_shapes_is_refused_and_not_broadcast(other: dict[str, np.ndarray]) -> None:
    name = next(iter(other))
    with pytest.raises(InputError, match=rf"golden {name} are .* an image, the graph gives \("):
        compare(GOLDEN, Scripted(**other), 1e-4, 0)


def test_tolerance_grows_with_the_logit() -> None:
    runner = Scripted(logits=changed(LOGITS, ((2, 1), 3.01)))
    assert compare(GOLDEN, runner, 0.0, 0.01).passed
    assert not compare(GOLDEN, runner, 0.009, 0.0).passed


def test_another_decision_is_a_fault_even_within_the_tolerance() -> None:
    golden = replace(GOLDEN, logits=changed(LOGITS, ((0, 0), 1e-5)))
    parity = compare(golden, Scripted(logits=changed(LOGITS, ((0, 0), -1e-5))), 1e-3, 0)
    assert parity.decisions_agreeing == 2
    assert parity.faults[0].startswith("a: another decision")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("image", [0, 1])
def test_what_is_not_a_number_never_passes(value: float, image: int) -> None:
    swapped = changed(DEPTH, ((1, 0), 1), ((1, 1), 2))
    parity = compare(GOLDEN, Scripted(logits=changed(LOGITS, ((image, 0), value)), depth=swapped), 1e9, 1e9)
    assert f"{'ab'[image]}: logits are not finite" in parity.faults


def test_tokens_that_differ_at_a_clear_margin_are_a_fault() -> None:
    swapped = changed(DEPTH, ((0, 1), 1), ((0, 2), 2))
    parity = compare(GOLDEN, Scripted(depth=swapped), 1e-4, 0)
    assert parity.faults == ("a: 2 tokens differ at step 2, at margins up to 2.00e-01 of the spread",)
    assert parity.tokens_agreeing == (10 / 12, 1.0)


def test_a_near_tie_is_listed_and_what_follows_from_it_is_no_fault() -> None:
    swapped = changed(DEPTH, ((1, 0), 1), ((1, 1), 2))
    logits = changed(LOGITS, ((1, 0), 5.0))
    parity = compare(GOLDEN, Scripted(depth=swapped, logits=logits), 1e-4, 0)
    assert parity.passed
    assert [(tie.image, tie.step, tie.patch) for tie in parity.near_ties] == [("b", 2, 0), ("b", 2, 1)]
    assert parity.decisions_agreeing == 2, "the changed decision is counted"
    assert (parity.largest_difference, parity.largest_tied_difference) == (0, 5.0)


def test_a_tie_excuses_only_the_tokens_that_are_tied() -> None:
    swapped = changed(DEPTH, ((1, 0), 1), ((1, 3), 2))
    assert "b: 2 tokens differ at step 2" in compare(GOLDEN, Scripted(depth=swapped), 1e-4, 0).faults[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"counts": changed(counts_of(DEPTH), ((2, 1), 9))},
        {"depth": changed(DEPTH, ((2, 3), 4)), "counts": counts_of(DEPTH)},
        {"depth": changed(DEPTH, ((2, 0), 0)), "counts": counts_of(DEPTH)},
    ],
)
def test_a_trace_that_contradicts_itself_is_a_fault(wrong: dict[str, np.ndarray]) -> None:
    assert "c: depth and counts contradict each other" in compare(GOLDEN, Scripted(**wrong), 1e-4, 0).faults


# Image 1 is all but tied; the six patches of each are merged to four tokens, which DEPTH is of.
ASSIGNMENT = np.array([[0, 0, 1, 2, 3, -1], [0, 1, 1, 2, 3, 3], [0, 1, 2, 3, -1, -1]], np.int32)
GAP = np.array([0.01, 1e-6, 0.01], np.float32)
MERGED = replace(GOLDEN, assignment=ASSIGNMENT, gap=GAP)
MERGED_ONLY = replace(MERGED, depth=None, margin=None)
MOVED = {"clear": changed(ASSIGNMENT, ((0, 1), 1)), "tied": changed(ASSIGNMENT, ((1, 1), 0), ((1, 2), 2))}
WRONG = {"clear": changed(LOGITS, ((0, 0), 5.0)), "tied": changed(LOGITS, ((1, 0), 5.0))}


def test_the_same_merges_agree_wholly() -> None:
    parity = compare(MERGED, Scripted(assignment=ASSIGNMENT), 1e-4, 0, tokens=4)
    assert parity.passed
    assert (parity.patches_agreeing, parity.merged_otherwise, parity.near_tied) == (1.0, (), 0)


@pytest.mark.parametrize("call, image, patches, gap", [("clear", "a", 1, 0.01), ("tied", "b", 2, 1e-6)])
def test_patches_that_ended_elsewhere_are_listed_and_are_no_fault_while_the_logits_hold(
    call: str, image: str, patches: int, gap: float
) -> None:
    parity = compare(MERGED_ONLY, Scripted(assignment=MOVED[call]), 1e-4, 0, tokens=4)
    assert parity.passed
    assert parity.patches_agreeing == pytest.approx(1 - patches / 18)
    assert parity.merged_otherwise == (MergedOtherwise(image, patches, pytest.approx(gap)),)
    assert parity.near_tied == (call == "tied")


@pytest.mark.parametrize("moved", ["clear", "tied", "nothing"])
@pytest.mark.parametrize("wrong", ["clear", "tied"])
def test_wrong_logits_are_excused_only_where_a_near_tie_merged_that_image_otherwise(moved: str, wrong: str) -> None:
    runner = Scripted(assignment=MOVED.get(moved, ASSIGNMENT), logits=WRONG[wrong])
    parity = compare(MERGED_ONLY, runner, 1e-4, 0, tokens=4)
    assert parity.passed == (moved == wrong == "tied")
    assert (parity.largest_tied_difference > 1) == parity.passed


def test_no_known_gap_excuses_nothing() -> None:
    golden = replace(MERGED_ONLY, gap=None)
    runner = Scripted(assignment=MOVED["tied"], logits=WRONG["tied"])
    parity = compare(golden, runner, 1e-4, 0, tokens=4)
    assert not parity.passed
    assert parity.merged_otherwise == (MergedOtherwise("b", 2, None),)


def test_near_ties_excuse_no_more_than_half_of_the_inputs() -> None:
    golden = replace(MERGED_ONLY, gap=np.full_like(GAP, 1e-6))
    everywhere = (ASSIGNMENT + 1) % 4
    parity = compare(golden, Scripted(assignment=everywhere, logits=LOGITS + 5), 1e-4, 0, tokens=4)
    assert not parity.passed
    assert "too few are left to judge by" in parity.faults[-1]


def test_a_mask_that_chooses_nothing_leaves_routed_tokens_comparable() -> None:
    golden = replace(MERGED, gap=None)
    assert compare(golden, Scripted(assignment=MOVED["tied"]), 1e-4, 0, tokens=4).passed
    other_depth = changed(DEPTH, ((1, 3), 3))
    assert not compare(golden, Scripted(depth=other_depth, assignment=MOVED["tied"]), 1e-4, 0, tokens=4).passed


def test_routed_tokens_are_not_compared_where_other_tokens_were_made() -> None:
    other_depth = changed(DEPTH, ((1, 3), 3))
    assert not compare(MERGED, Scripted(depth=other_depth, assignment=ASSIGNMENT), 1e-4, 0, tokens=4).passed
    parity = compare(MERGED, Scripted(depth=other_depth, assignment=MOVED["tied"]), 1e-4, 0, tokens=4)
    assert parity.passed
    assert parity.tokens_agreeing == (1.0, 1.0)
    clear = compare(MERGED, Scripted(assignment=MOVED["clear"]), 1e-4, 0, tokens=4)
    assert clear.faults == ("a: tokens were merged otherwise than in the reference",)


def test_a_trace_that_contradicts_itself_is_a_fault_however_its_image_was_merged() -> None:
    runner = Scripted(assignment=MOVED["tied"], counts=changed(counts_of(DEPTH), ((1, 1), 9)))
    assert "b: depth and counts contradict each other" in compare(MERGED, runner, 1e-4, 0, tokens=4).faults


@pytest.mark.parametrize("token, tokens", [(4, 4), (6, None), (-2, 4)])
@pytest.mark.parametrize("image", [0, 1])
def test_a_token_that_there_is_not_is_a_fault_even_at_a_near_tie(image: int, token: int, tokens: int | None) -> None:
    runner = Scripted(assignment=changed(ASSIGNMENT, ((image, 0), token)))
    faults = compare(MERGED_ONLY, runner, 1e-4, 0, tokens=tokens).faults
    assert faults == (f"{'ab'[image]}: a patch is assigned to no token that there is",)


def test_without_an_assignment_in_the_graph_a_near_tie_excuses_nothing() -> None:
    runner = Scripted(logits=WRONG["tied"])
    parity = compare(MERGED_ONLY, runner, 1e-4, 0)
    assert not parity.passed
    assert parity.patches_agreeing is None


def test_without_a_trace_the_logits_alone_are_judged() -> None:
    runner = Scripted()
    runner.answers = {"logits": LOGITS}
    parity = compare(GOLDEN, runner, 1e-4, 0)
    assert parity.passed
    assert parity.tokens_agreeing == ()


def test_images_of_another_size_are_one_line() -> None:
    golden = replace(GOLDEN, images=np.zeros((3, 3, 4, 4), np.float32))
    with pytest.raises(InputError, match="export the bundle again"):
        compare(golden, Scripted(), 1e-4, 0)


def test_golden_samples_survive_their_file() -> None:
    again = Golden.from_arrays(GOLDEN.to_arrays())
    assert again.names == GOLDEN.names
    for name in ("images", "logits", "depth", "margin"):
        np.testing.assert_array_equal(getattr(again, name), getattr(GOLDEN, name))
    assert again.assignment is None and again.gap is None
    merged = Golden.from_arrays(MERGED.to_arrays())
    np.testing.assert_array_equal(merged.assignment, ASSIGNMENT)
    np.testing.assert_array_equal(merged.gap, GAP)
    plain = replace(GOLDEN, depth=None, margin=None)
    assert Golden.from_arrays(plain.to_arrays()).depth is None


@pytest.mark.parametrize(
    "damage",
    [
        {"images": None},
        {"names": np.frombuffer(b"a\nb", np.uint8)},
        {"logits": LOGITS[:2]},
        {"margin": MARGIN[:, :, :3]},
        {"margin": None},
        {"images": IMAGES[0]},
        {"assignment": ASSIGNMENT[:2]},
        {"assignment": ASSIGNMENT.astype(np.float32)},
        {"gap": GAP[:2]},
        {"assignment": None},
    ],
)
def test_golden_samples_that_do_not_fit_are_one_line(damage: dict[str, np.ndarray | None]) -> None:
    arrays = {name: value for name, value in (MERGED.to_arrays() | damage).items() if value is not None}
    with pytest.raises(InputError, match="export again"):
        Golden.from_arrays(arrays)
