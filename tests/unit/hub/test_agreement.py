from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.agreement import STANDARDS, agree, judge
from edgevit.errors import InputError
from edgevit.parity import Golden
from edgevit.spec import TensorSpec

N = 8
NAMES = tuple(f"picture {i}" for i in range(N))
LOGITS = np.tile(np.array([4.0, 2.0, 0.0], np.float32), (N, 1))
# Ten tokens, three steps: tokens 0 to 3 take two steps, tokens 0 and 1 three.
DEPTH = np.tile(np.array([3, 3, 2, 2, 1, 1, 1, 1, 1, 1], np.int32), (N, 1))
ASSIGNMENT = np.tile(np.array([0, 0, 1, 2, 2, 3], np.int32), (N, 1))
IMAGES = np.zeros((N, 3, 2, 2), np.float32)
GOLDEN = Golden(NAMES, IMAGES, LOGITS, DEPTH, np.ones((N, 2, 10), np.float32))


def outputs(**changed: np.ndarray) -> dict[str, np.ndarray]:
    depth = changed.get("depth", DEPTH)
    counts = np.stack([(depth > r).sum(axis=1) for r in range(3)], axis=1).astype(np.int32)
    return {"logits": LOGITS, "depth": depth, "counts": counts} | changed


def changed(values: np.ndarray, *edits: tuple[tuple[int, ...], float]) -> np.ndarray:
    values = values.copy()
    for place, value in edits:
        values[place] = value
    return values


def test_the_same_answer_agrees_wholly() -> None:
    parity = judge(GOLDEN, outputs(), "fp16")
    assert parity.passed
    assert (parity.decisions_agreeing, parity.selected_agreeing, parity.largest_share) == (N, (1.0, 1.0), 0.0)


def test_a_runner_is_run_on_every_image() -> None:
    class Fixed:
        input = TensorSpec("image", "float32", (4, 3, 2, 2))
        outputs = ()
        facts: ClassVar[dict[str, str | int]] = {}

        def __enter__(self) -> Fixed:
            return self

        def __exit__(self, *_: object) -> None: ...

        def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
            return {name: value[: len(image)] for name, value in outputs().items()}

    seen: list[int] = []
    assert agree(GOLDEN, Fixed(), "bf16", seen.append).passed
    assert seen == [4, 8]


def test_another_decision_is_a_fault_and_listed_with_the_margin_of_the_reference() -> None:
    # The spread is 4 and the reference prefers its class by 0.4: a tenth.
    golden = replace(GOLDEN, logits=changed(LOGITS, ((5, 1), 3.6)))
    parity = judge(golden, outputs(logits=changed(golden.logits, ((5, 1), 4.1))), "bf16")
    (one,) = parity.decided_otherwise
    assert (one.image, one.wanted, one.got, one.near_tie) == ("picture 5", 0, 1, False)
    assert one.margin == pytest.approx(0.1)
    assert parity.decisions_agreeing == N - 1
    assert parity.faults == ("7 of 8 decisions agree (wanted 99 %); picture 5 at a margin of 0.1 of the spread",)


def test_a_near_tie_between_classes_is_listed_and_no_fault() -> None:
    golden = replace(GOLDEN, logits=changed(LOGITS, ((5, 1), 3.9999)))
    parity = judge(golden, outputs(logits=changed(golden.logits, ((5, 1), 4.0001))), "fp16")
    assert parity.passed
    assert parity.decisions_agreeing == N - 1
    assert [one.near_tie for one in parity.decided_otherwise] == [True]


def test_near_ties_excuse_no_more_than_half_of_the_images() -> None:
    tied = LOGITS.copy()
    tied[:, 1] = 3.9999
    flipped = tied.copy()
    flipped[:5, 1] = 4.0001
    parity = judge(replace(GOLDEN, logits=tied), outputs(logits=flipped), "fp16")
    assert parity.faults == ("5 of 8 inputs decide otherwise at near-ties: too few are left to judge by",)


def test_the_share_is_of_selected_tokens_and_not_of_all() -> None:
    # One of the two tokens of step three is another in every image: 8 of 10 alike, but half of those selected.
    swapped = DEPTH.copy()
    swapped[:, 1], swapped[:, 2] = 2, 3
    parity = judge(GOLDEN, outputs(depth=swapped), "fp16")
    assert parity.tokens_agreeing == (1.0, 0.8)
    assert parity.selected_agreeing == (1.0, 0.5)
    assert parity.faults == ("50 % of the tokens selected at step 3 are the same (wanted 99 %)",)


def test_steps_of_different_counts_are_compared_by_what_both_select() -> None:
    fewer = changed(DEPTH, *(((i, 3), 1) for i in range(N)))  # three of four at step two
    assert judge(GOLDEN, outputs(depth=fewer), "fp16").selected_agreeing == (pytest.approx(6 / 7), 1.0)


def test_a_step_that_selects_nothing_in_either_agrees() -> None:
    none = np.minimum(DEPTH, 2)
    assert judge(replace(GOLDEN, depth=none), outputs(depth=none), "fp16").selected_agreeing == (1.0, 1.0)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_faults_and_no_decision(number: float) -> None:
    parity = judge(GOLDEN, outputs(logits=changed(LOGITS, ((0, 0), number))), "int8")
    assert parity.faults[0] == "picture 0: logits are not finite"
    assert parity.decisions_agreeing == N - 1
    assert np.isfinite([parity.largest_difference, parity.largest_share]).all()


def test_a_logit_far_off_is_a_fault_even_where_the_decision_stands() -> None:
    allowed = STANDARDS["fp16"].logits
    near, far = (changed(LOGITS, ((2, 2), -4 * allowed * factor)) for factor in (0.9, 1.1))
    assert judge(GOLDEN, outputs(logits=near), "fp16").passed
    assert judge(GOLDEN, outputs(logits=far), "fp16").faults[0].startswith("picture 2: logits differ by")


def test_counts_that_contradict_the_depth_are_a_fault() -> None:
    parity = judge(GOLDEN, outputs(counts=np.zeros((N, 3), np.int32)), "fp16")
    assert "picture 0: depth and counts contradict each other" in parity.faults


@given(st.permutations(range(4)))
def test_grouping_is_the_same_whatever_the_numbers_of_the_tokens(numbers: list[int]) -> None:
    golden = Golden(NAMES, IMAGES, LOGITS, assignment=ASSIGNMENT)
    other = np.array(numbers, np.int32)[ASSIGNMENT]
    parity = judge(golden, {"logits": LOGITS, "assignment": other}, "fp16")
    assert parity.passed
    assert (parity.patches_agreeing, parity.merged_otherwise) == (1.0, ())


def test_a_patch_in_another_group_is_reported_and_no_fault() -> None:
    golden = Golden(NAMES, IMAGES, LOGITS, assignment=ASSIGNMENT)
    other = changed(ASSIGNMENT, ((3, 3), 1))  # patch 3 goes to patch 2, and leaves patch 4 alone
    parity = judge(golden, {"logits": LOGITS, "assignment": other}, "fp16")
    assert parity.passed
    assert [(one.image, one.patches) for one in parity.merged_otherwise] == [("picture 3", 2)]


def test_a_patch_in_no_token_is_a_fault() -> None:
    golden = Golden(NAMES, IMAGES, LOGITS, assignment=ASSIGNMENT)
    parity = judge(golden, {"logits": LOGITS, "assignment": changed(ASSIGNMENT, ((0, 0), 4))}, "fp16", tokens=4)
    assert parity.faults == ("picture 0: a patch is assigned to no token that there is",)


def test_tokens_merged_before_the_first_step_are_followed_to_their_patches() -> None:
    depth = np.tile(np.array([3, 1, 1, 2], np.int32), (N, 1))
    golden = Golden(NAMES, IMAGES, LOGITS, depth, np.ones((N, 2, 4), np.float32), ASSIGNMENT)
    renumbered = np.array([3, 2, 1, 0], np.int32)
    same = {"depth": depth[:, renumbered], "assignment": renumbered[ASSIGNMENT]}
    assert judge(golden, outputs(**same), "fp16").selected_agreeing == (1.0, 1.0)
    elsewhere = {"depth": depth[:, renumbered], "assignment": ASSIGNMENT}
    # Patches 0, 1 and 5 take step two in the reference; 0, 1 (now depth 2) and 5 (depth 3) here.
    assert judge(golden, outputs(**elsewhere), "fp16").selected_agreeing == (1.0, 0.0)


def test_fp32_has_no_standard() -> None:
    with pytest.raises(InputError, match="fp32 is compared by tolerances"):
        judge(GOLDEN, outputs(), "fp32")


def test_outputs_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match="golden logits are"):
        judge(GOLDEN, outputs(logits=LOGITS[:, :2]), "fp16")
