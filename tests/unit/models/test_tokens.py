from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgevit.models.tokens import HIDDEN, gather, hide, lowest_index_top_k, membership, write_back

# Few different values, so that most rows have ties, also across the k-th place; -0.0 and 0.0 are equal.
tied = st.sampled_from([-1.5, -0.0, 0.0, 1.0, 2.0])
anything = st.floats(-(2.0**99), 2.0**99, width=32)


@st.composite
def scores(draw: st.DrawFn) -> tuple[Tensor, int]:
    batch, length = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    values = draw(st.sampled_from([tied, anything]))
    rows = draw(st.lists(st.lists(values, min_size=length, max_size=length), min_size=batch, max_size=batch))
    return torch.tensor(rows, dtype=torch.float32), draw(st.integers(1, length))


@st.composite
def indices(draw: st.DrawFn) -> tuple[Tensor, int]:
    """B x k unique positions in any order, and the length they point into."""
    batch, length = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    k = draw(st.integers(1, length))
    rows = [draw(st.permutations(range(length)))[:k] for _ in range(batch)]
    return torch.tensor(rows, dtype=torch.int64), length


def best(row: list[float], k: int) -> list[int]:
    """The k largest of a row, the first of equal ones, in the order of their positions."""
    return sorted(sorted(range(len(row)), key=lambda i: (-row[i], i))[:k])


@given(scores())
@settings(deadline=None)
def test_top_k_takes_the_largest_and_of_equal_ones_the_first(case: tuple[Tensor, int]) -> None:
    rows, k = case
    index = lowest_index_top_k(rows, k)
    assert index.dtype == torch.int64
    assert index.tolist() == [best(row, k) for row in rows.tolist()]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_top_k_breaks_ties_alike_in_every_precision(dtype: torch.dtype) -> None:
    rows = torch.tensor([[1, 2, 2, 1, 2, 0]], dtype=dtype)
    assert [lowest_index_top_k(rows, k).tolist() for k in (2, 3, 4)] == [[[1, 2]], [[1, 2, 4]], [[0, 1, 2, 4]]]


def test_top_k_of_equal_scores_is_the_first_k_of_any_length() -> None:
    # Long enough for sorting algorithms that are stable on short inputs alone.
    assert lowest_index_top_k(torch.zeros(2, 5000), 3000).tolist() == [list(range(3000))] * 2


@given(scores(), st.data())
@settings(deadline=None)
def test_choosing_among_the_chosen_is_choosing_with_the_rest_out_of_the_game(
    case: tuple[Tensor, int], data: st.DataObject
) -> None:
    rows, k = case
    wider = lowest_index_top_k(rows, k)
    again = data.draw(scores().map(lambda other: other[0].flatten()), label="scores of the second step")
    second = again.repeat(rows.numel())[: rows.numel()].reshape(rows.shape)
    fewer = data.draw(st.integers(1, k), label="k of the second step")
    inner = lowest_index_top_k(gather(second, wider), fewer)
    outside = torch.where(membership(wider, rows.shape[1]), second, torch.finfo(torch.float32).min)
    assert gather(wider, inner).tolist() == lowest_index_top_k(outside, fewer).tolist()


def test_top_k_is_an_operator_a_graph_can_hold_whole() -> None:
    torch.library.opcheck(
        torch.ops.edgevit.lowest_index_top_k.default,
        (torch.tensor([[1.0, 3.0, 3.0]]), 2),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_no_gradient_flows_through_a_choice() -> None:
    score = torch.randn(1, 4, requires_grad=True)
    assert not lowest_index_top_k(score, 2).requires_grad


@given(indices(), st.integers(1, 3))
@settings(deadline=None)
def test_gather_looks_rows_up_in_each_sequence_of_the_batch(case: tuple[Tensor, int], channels: int) -> None:
    index, length = case
    batch, k = index.shape
    sequence = torch.arange(batch * length * channels, dtype=torch.float32).reshape(batch, length, channels)
    gathered = gather(sequence, index)
    assert gathered.shape == (batch, k, channels)
    assert gathered.tolist() == [[sequence[b, i].tolist() for i in index[b].tolist()] for b in range(batch)]
    assert gather(sequence[..., 0], index).tolist() == gathered[..., 0].tolist()


def test_the_gradient_of_gather_lands_on_the_rows_that_were_taken() -> None:
    sequence = torch.zeros(2, 3, 2, requires_grad=True)
    gather(sequence, torch.tensor([[2, 0], [1, 2]])).sum().backward()
    assert sequence.grad is not None
    assert sequence.grad[..., 0].tolist() == [[1, 0, 1], [0, 1, 1]]


@given(indices())
def test_membership_is_true_where_a_position_is_listed(case: tuple[Tensor, int]) -> None:
    index, length = case
    assert membership(index, length).tolist() == [[i in row for i in range(length)] for row in index.tolist()]


@given(indices(), st.integers(1, 3))
@settings(deadline=None)
def test_write_back_replaces_the_listed_rows_and_no_others(case: tuple[Tensor, int], channels: int) -> None:
    index, length = case
    batch, k = index.shape
    sequence = torch.arange(batch * length * channels, dtype=torch.float32).reshape(batch, length, channels)
    before, chosen = sequence.clone(), -1.0 - torch.arange(batch * k * channels).reshape(batch, k, channels)
    wanted = sequence.tolist()
    for b, row in enumerate(index.tolist()):
        for place, i in enumerate(row):
            wanted[b][i] = chosen[b, place].tolist()
    assert write_back(sequence, index, chosen).tolist() == wanted
    assert torch.equal(sequence, before), "the sequence itself is left as it was"


@given(indices())
@settings(deadline=None)
def test_writing_back_what_was_gathered_changes_nothing(case: tuple[Tensor, int]) -> None:
    index, length = case
    sequence = torch.randn(index.shape[0], length, 2)
    assert torch.equal(write_back(sequence, index, gather(sequence, index)), sequence)


def test_hide_leaves_cls_and_the_active_patches_visible() -> None:
    mask = hide(torch.tensor([[True, False, True], [False, False, False]]))
    assert mask.shape == (2, 1, 1, 4)
    assert mask.dtype == torch.float32
    assert mask[:, 0, 0].tolist() == [[0, 0, HIDDEN, 0], [0, HIDDEN, HIDDEN, HIDDEN]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("excess", [-20.0, 0.0, 20.0, 36.0])
def test_a_thousand_hidden_keys_weigh_nothing_even_where_they_would_win(dtype: torch.dtype, excess: float) -> None:
    visible = torch.tensor([0.0, -3.0], dtype=dtype)
    hidden = torch.full((1000,), excess, dtype=dtype) + HIDDEN
    weights = torch.softmax(torch.cat([visible, hidden]), 0)
    assert weights[2:].double().sum() < 1e-7
    torch.testing.assert_close(weights[:2], torch.softmax(visible, 0), atol=1e-7, rtol=0)


def test_a_hidden_key_leaves_no_denormal_behind() -> None:
    """Multiplying by denormals is what makes a mask slow, so the least weight has to be a normal number."""
    least = torch.softmax(torch.tensor([27.0, HIDDEN]), 0)[1].item()
    assert least > torch.finfo(torch.float32).tiny
