from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgevit.errors import InputError
from edgevit.models import tokens
from edgevit.models.layers import decomposed_attention

# Few directions, so that equal likenesses are common: ties are broken by position alone.
directions = st.sampled_from([(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (2.0, 0.0), (3.0, 4.0)])


@st.composite
def sequences(draw: st.DrawFn) -> tuple[Tensor, int, int]:
    """Keys B x n x d, r and the number of protected tokens before them."""
    batch, n, protected = draw(st.integers(1, 3)), draw(st.integers(2, 9)), draw(st.integers(0, 3))
    if draw(st.booleans()):
        rows = draw(st.lists(st.lists(directions, min_size=n, max_size=n), min_size=batch, max_size=batch))
        keys = torch.tensor(rows)
    else:
        keys = torch.randn(batch, n, 3, generator=torch.Generator().manual_seed(draw(st.integers(0, 999))))
    return keys, draw(st.integers(1, n // 2)), protected


def halves(n: int, protected: int) -> tuple[list[int], list[int]]:
    """Positions in the whole sequence that belong to A and to B, protected ones left out."""
    positions = range(protected, protected + n)
    return [i for i in positions if i % 2 == 0], [i for i in positions if i % 2 == 1]


def slow_groups(keys: Tensor, r: int, protected: int) -> list[list[int]]:
    """One image: what each token of the merged sequence is made of, by loops over the published definition."""
    first, second = halves(len(keys), protected)
    unit = keys / keys.norm(dim=-1, keepdim=True)
    likeness = unit[[i - protected for i in first]] @ unit[[i - protected for i in second]].T
    edges = []
    for i, row in zip(first, likeness.tolist(), strict=True):
        best = max(range(len(row)), key=lambda j: (row[j], -j))
        edges.append((-row[best], i, second[best]))
    merged = {source: target for _, source, target in sorted(edges)[:r]}
    groups = [[i] for i in range(protected)] + [[i] for i in first if i not in merged]
    return groups + [[j, *(i for i in first if merged.get(i) == j)] for j in second]


def whole(keys: Tensor, protected: int, width: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(keys.shape[1])
    return torch.randn(keys.shape[0], protected + keys.shape[1], width, generator=generator)


@given(sequences(), st.booleans())
@settings(deadline=None)
def test_merging_is_the_size_weighted_mean_of_what_the_published_method_pairs(
    case: tuple[Tensor, int, int], sized: bool
) -> None:
    keys, r, protected = case
    x, n = whole(keys, protected), keys.shape[1]
    size = torch.arange(1.0, 1 + n).repeat(len(keys), 1) if sized else None
    matching = tokens.match(keys, r, protected)
    merged, sizes = tokens.merge(x, size, matching, protected)
    assert merged.shape == (len(keys), protected + n - r, 3)
    assert sizes.shape == (len(keys), n - r)
    after = tokens.successors(matching, protected + n, protected)
    for b in range(len(keys)):
        weights = [1.0] * protected + ([1.0] * n if size is None else size[b].tolist())
        groups = slow_groups(keys[b], r, protected)
        assert len(groups) == merged.shape[1]
        for place, group in enumerate(groups):
            total = sum(weights[i] for i in group)
            mean = sum(x[b, i] * weights[i] for i in group) / total
            torch.testing.assert_close(merged[b, place], mean)
            if place < protected:
                assert group == [place], "no token crosses a protected one"
                assert torch.equal(merged[b, place], x[b, place])
            else:
                assert sizes[b, place - protected].item() == pytest.approx(total)
                assert {int(after[b, i - protected]) for i in group} == {place - protected}


@given(sequences())
@settings(deadline=None)
def test_sizes_sum_to_the_patches_through_merge_after_merge(case: tuple[Tensor, int, int]) -> None:
    keys, _, protected = case
    n, size, x = keys.shape[1], None, whole(keys, protected)
    while x.shape[1] - protected > 1:
        current = x[:, protected:]
        matching = tokens.match(current, tokens.mergeable(x.shape[1], protected), protected)
        x, size = tokens.merge(x, size, matching, protected)
        assert size.sum(dim=1).tolist() == pytest.approx([n] * len(keys))
    torch.testing.assert_close(x[:, protected], whole(keys, protected)[:, protected:].mean(dim=1))


@given(sequences())
@settings(deadline=None)
def test_unmerging_puts_each_value_back_at_every_source(case: tuple[Tensor, int, int]) -> None:
    keys, r, protected = case
    x = whole(keys, protected)
    matching = tokens.match(keys, r, protected)
    merged, size = tokens.merge(x, None, matching, protected)
    back = tokens.unmerge(merged, matching, x.shape[1], protected)
    assert back.shape == x.shape
    for b in range(len(keys)):
        for place, group in enumerate(slow_groups(keys[b], r, protected)):
            assert all(torch.equal(back[b, i], merged[b, place]) for i in group)
    again, _ = tokens.merge(back, None, matching, protected)
    torch.testing.assert_close(again, merged)
    torch.testing.assert_close(back.sum(dim=1), x.sum(dim=1), atol=1e-4, rtol=1e-4)
    assert size.amin() >= 1


def test_every_image_of_a_batch_is_merged_as_it_is_alone() -> None:
    keys, x = torch.randn(4, 11, 5), torch.randn(4, 12, 6)
    together, sizes = tokens.merge(x, None, tokens.match(keys, 4, 1), 1)
    for b in range(4):
        alone, size = tokens.merge(x[b : b + 1], None, tokens.match(keys[b : b + 1], 4, 1), 1)
        torch.testing.assert_close(alone[0], together[b])
        assert size[0].tolist() == sizes[b].tolist()


def test_a_key_of_zero_is_like_no_other_and_breaks_nothing() -> None:
    keys = torch.zeros(1, 6, 2)
    assert tokens.match(keys, 2, 0).merged.tolist() == [[0, 2]]
    assert tokens.match_gap(keys, 2, 0).tolist() == [0.0]


def test_a_merge_passes_gradients_to_all_it_is_made_of() -> None:
    x = torch.randn(2, 7, 3, requires_grad=True)
    merged, _ = tokens.merge(x, None, tokens.match(x[:, 1:], 3, 1), 1)
    (merged * torch.randn_like(merged)).sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(dim=-1) > 0).all()


@pytest.mark.parametrize(
    "n, r, protected, line",
    [
        (4, 0, 1, "a merge of 0 of 4 tokens; one merge takes 1 to half of them, 2"),
        (4, -1, 1, "a merge of -1 of 4 tokens; one merge takes 1 to half of them, 2"),
        (5, 3, 0, "a merge of 3 of 5 tokens; one merge takes 1 to half of them, 2"),
        (1, 1, 1, "a merge of 1 of 1 tokens; one merge takes 1 to half of them, 0"),
        (4, 1, -1, "-1 tokens protected of a sequence of 3; protect 0 to 3"),
    ],
)
def test_what_cannot_be_merged_is_refused_in_one_line(n: int, r: int, protected: int, line: str) -> None:
    with pytest.raises(InputError) as refusal:
        tokens.match(torch.randn(1, n, 2), r, protected)
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)


def test_protecting_more_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="3 tokens protected of a sequence of 2; protect 0 to 2"):
        tokens.mergeable(2, 3)


@given(st.integers(1, 4), st.integers(2, 40), st.data())
@settings(deadline=None)
def test_proportional_attention_is_attention_over_repeated_tokens(batch: int, n: int, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    q, k, v = torch.randn(3, batch, 2, n, 4).unbind(0)
    repeated = [i for i, size in enumerate(sizes) for _ in range(size)]
    mask = torch.tensor(sizes, dtype=torch.float32).log()[None, None, None]
    wanted = decomposed_attention(q, k[:, :, repeated], v[:, :, repeated], None)
    torch.testing.assert_close(decomposed_attention(q, k, v, mask), wanted, atol=1e-5, rtol=1e-4)


@st.composite
def chosen(draw: st.DrawFn) -> tuple[Tensor, int]:
    batch, length = draw(st.integers(1, 3)), draw(st.integers(2, 9))
    k = draw(st.integers(1, length - 1))
    return torch.tensor([draw(st.permutations(range(length)))[:k] for _ in range(batch)]), length


@given(chosen())
@settings(deadline=None)
def test_what_is_listed_is_what_membership_says(case: tuple[Tensor, int]) -> None:
    index, length = case
    assert tokens.listed(index, length).tolist() == tokens.membership(index, length).tolist()


@given(chosen())
@settings(deadline=None)
def test_places_puts_values_where_they_belong_and_zero_elsewhere(case: tuple[Tensor, int]) -> None:
    index, length = case
    values = torch.arange(1, 1 + index.shape[1]).expand_as(index)
    wanted = [[row.index(i) + 1 if i in row else 0 for i in range(length)] for row in index.tolist()]
    assert tokens.places(index, values, length).tolist() == wanted


@given(
    st.lists(st.lists(st.sampled_from([-1.0, 0.0, 2.0]), min_size=5, max_size=5), min_size=1, max_size=3),
    st.integers(1, 5),
    st.booleans(),
)
def test_ranked_gives_the_lowest_position_first_among_equals(rows: list[list[float]], k: int, largest: bool) -> None:
    values, index = tokens.ranked(torch.tensor(rows), k, largest=largest)
    sign = -1 if largest else 1
    wanted = [sorted(range(5), key=lambda i, row=row: (sign * row[i], i))[:k] for row in rows]
    assert index.tolist() == wanted
    assert values.tolist() == [[row[i] for i in order] for row, order in zip(rows, wanted, strict=True)]


def test_the_gap_of_a_selection_is_the_step_at_its_edge() -> None:
    scores = torch.tensor([[0.0, 1.0, 4.0, 2.0], [3.0, 3.0, 3.0, 3.0]])
    assert tokens.selection_gap(scores, 2).tolist() == [0.25, 0.0]
    assert tokens.selection_gap(scores, 4).tolist() == [1.0, 1.0]


def turned(*degrees: float) -> Tensor:
    """Unit vectors at these angles, as the keys of one image."""
    return torch.tensor([[(math.cos(math.radians(a)), math.sin(math.radians(a))) for a in degrees]])


def test_the_gap_of_a_matching_is_the_least_step_that_would_change_it() -> None:
    # A at 0 and 40 degrees, B at 10 and 70: the first pair (10 apart) is merged, its next partner is 70 away, the next
    # pair 30; the likenesses run from cos 70 to cos 10.
    keys = turned(0, 10, 40, 70)
    cosine = {a: math.cos(math.radians(a)) for a in (10, 30, 70)}
    wanted = (cosine[10] - cosine[30]) / (cosine[10] - cosine[70])
    assert tokens.match_gap(keys, 1, 0).item() == pytest.approx(wanted, abs=1e-5)
    # With both merged, the second's partners at 30 and 30 decide: a tie.
    assert tokens.match_gap(keys, 2, 0).item() == pytest.approx(0, abs=1e-5)
    # One of B leaves no choice of a partner, and one of A none of a pair.
    assert tokens.match_gap(turned(0, 10), 1, 0).tolist() == [1.0]
