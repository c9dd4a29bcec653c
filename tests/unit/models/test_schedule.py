from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.models.reduction import ReducedAt
from edgevit.models.schedule import parse_pairs, parse_schedule, schedule_text
from edgevit.spec import Method


def counts(text: str | None, method: Method, patches: int = 196, depth: int = 12) -> list[tuple[int, int]]:
    return [(at.block, at.tokens) for at in parse_schedule(text, method, patches, depth)]


@pytest.mark.parametrize("text", [None, "13", " 13 ", "13:0", ",".join(["13"] * 12)])
def test_tome_merges_thirteen_at_every_block(text: str | None) -> None:
    assert counts(text, "tome") == [(block, 196 - 13 * (block + 1)) for block in range(12)]


@pytest.mark.parametrize("patches, r", [(196, 13), (256, 17), (64, 4), (576, 38), (4, 1)])
def test_tomes_default_is_in_proportion_to_the_patches(patches: int, r: int) -> None:
    assert counts(None, "tome", patches)[0] == (0, patches - r)


def test_a_constant_is_cut_to_what_late_blocks_have_as_tome_does() -> None:
    assert counts("16", "tome")[-2:] == [(10, 20), (11, 10)]
    assert counts("25", "tome")[-5:] == [(7, 12), (8, 6), (9, 3), (10, 2), (11, 1)]
    assert counts("1", "tome", patches=2, depth=3) == [(0, 1)]


@pytest.mark.parametrize(
    "text, merged",
    [
        ("8:1", [0, 4, 8, 12, 16]),
        ("8:-1", [16, 12, 8, 4, 0]),
        ("8:-0.5", [12, 10, 8, 6, 4]),
        ("7:0.25", [5, 6, 7, 8, 9]),
    ],
)
def test_an_inflection_is_linear_around_r(text: str, merged: list[int]) -> None:
    assert schedule_text(parse_schedule(text, "tome", 196, 5), "tome", 196, 5) == ",".join(map(str, merged))


def test_a_block_that_merges_nothing_has_no_entry() -> None:
    assert counts("0,8,0", "tome", depth=3) == [(1, 188)]
    assert counts("0", "tome") == []


def test_evit_and_dynamicvit_keep_what_their_published_code_keeps() -> None:
    assert counts(None, "dynamicvit") == counts("0.7", "dynamicvit") == [(3, 137), (6, 96), (9, 67)]
    # ceil(0.7 n) chosen and one fused, each time.
    assert counts("0.7", "evit") == [(3, 139), (6, 99), (9, 71)]
    assert counts("0.5", "evit") == [(3, 99), (6, 51), (9, 27)]
    assert counts(None, "ltm") == [(3, 137), (6, 96), (9, 67)]


@pytest.mark.parametrize("depth, blocks", [(24, [6, 12, 18]), (6, [1, 3, 4]), (2, [0, 1]), (1, [0])])
def test_other_depths_reduce_at_blocks_in_proportion(depth: int, blocks: list[int]) -> None:
    assert [block for block, _ in counts("0.5", "dynamicvit", depth=depth)] == blocks


def test_keeping_all_is_the_plain_model() -> None:
    assert counts("1", "evit") == counts("1.0", "dynamicvit") == []


def test_pairs_are_taken_as_they_stand() -> None:
    assert parse_pairs("3:98, 6:68") == (ReducedAt(3, 98), ReducedAt(6, 68))
    assert counts("3:98,6:68", "evit") == [(3, 98), (6, 68)]


@given(
    st.sampled_from(["tome", "evit", "dynamicvit", "ltm"]), st.integers(4, 300), st.integers(1, 24),
    st.sampled_from([None, "0.5", "0.9"]),
)  # fmt: skip
def test_the_text_of_a_schedule_reads_as_that_schedule(
    method: Method, patches: int, depth: int, text: str | None
) -> None:
    schedule = parse_schedule(None if method == "tome" else text, method, patches, depth)
    assert parse_schedule(schedule_text(schedule, method, patches, depth), method, patches, depth) == schedule
    assert all(1 <= at.tokens < patches for at in schedule)


@pytest.mark.parametrize(
    "method, text, line",
    [
        ("tome", "", "schedule '' for tome; give the tokens to merge at every block (13), at each one"),
        ("tome", "-3", "schedule '-3' for tome; give the tokens"),
        ("tome", "0.7", "schedule '0.7' for tome; give the tokens"),
        ("tome", "13:2", "schedule '13:2' for tome; give the tokens"),
        ("tome", "13:nan", "schedule '13:nan' for tome; give the tokens"),
        ("tome", "13,", "schedule '13,' for tome; give the tokens"),
        ("tome", "١٣", "schedule '١٣' for tome; give the tokens"),
        ("tome", "99", "schedule '99' merges 99 of 196 tokens at a block; one merge takes at most half of them, 98"),
        ("tome", "60:-1", "schedule '60:-1' merges 120 of 196 tokens at a block; one merge takes at most half"),
        ("tome", "13,13", "schedule '13,13' has 2 entries for 12 blocks; give one a block, 0 for none"),
        (
            "tome",
            "98,98" + ",0" * 10,
            "a merge of 98 of 98 tokens at block 1; one merge takes at most half of them, 49: merge fewer here",
        ),
        ("evit", "0", "schedule '0' for evit; give the share to keep, such as 0.7, above 0 and up to 1, or BLOCK"),
        ("evit", "1.5", "schedule '1.5' for evit; give the share"),
        ("dynamicvit", "nan", "schedule 'nan' for dynamicvit; give the share"),
        ("dynamicvit", "many", "schedule 'many' for dynamicvit; give the share"),
        ("ltm", "3:98;6:68", "'3:98;6:68' in schedule '3:98;6:68'; give BLOCK:TOKENS pairs, such as 3:128,7:64"),
        ("ltm", "3:98,", "'' in schedule '3:98,'; give BLOCK:TOKENS pairs"),
        ("ltm", "3:-1", "'3:-1' in schedule '3:-1'; give BLOCK:TOKENS pairs"),
        ("ltm", "3:0", "0 tokens after block 3 in schedule '3:0'; leave 1 or more"),
        ("ltm", "3:98,3:68", "block 3 after block 3 in schedule '3:98,3:68'; give them in order"),
        ("ltm", "3:68,6:98", "98 tokens after 68 in schedule '3:68,6:98'; tokens never grow more"),
        ("ltm", "12:98", "a reduction at block 12 of 12; blocks count from 0 to 11"),
        ("ltm", "3:197", "197 tokens after block 3, into which 196 go; leave 196 or fewer"),
        ("evit", "3:1", "1 token after block 3; evit leaves one it chose and one it fused: 2"),
    ],
)
def test_junk_is_refused_in_one_line(method: Method, text: str, line: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse_schedule(text, method, 196, 12)
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)
