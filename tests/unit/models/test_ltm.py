from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgevit.errors import InputError
from edgevit.models.ltm import LearnedMerging, Variant, best_gap, best_targets, target_grid
from edgevit.models.reduction import Stream


@st.composite
def mergings(draw: st.DrawFn) -> tuple[LearnedMerging, Tensor]:
    """A reducer with weights far from where it begins, in eval mode, and tokens for it."""
    sources = draw(st.integers(2, 9))
    tokens, width = draw(st.integers(1, sources - 1)), draw(st.integers(2, 5))
    torch.manual_seed(draw(st.integers(0, 99)))
    reducer = LearnedMerging(sources, tokens, width, variant=draw(st.sampled_from(["soft", "hard"])))
    for parameter in reducer.parameters():
        torch.nn.init.normal_(parameter)
    return reducer.eval().requires_grad_(False), torch.randn(draw(st.integers(1, 3)), sources, width)


def soft_mask(reducer: LearnedMerging, tokens: Tensor) -> list[list[float]]:
    """The definition, number by number: targets x sources of one image."""
    mean, deviation = tokens.mean(dim=1), tokens.var(dim=1, unbiased=False).add(reducer.norm.eps).sqrt()
    rows = []
    for p in range(reducer.tokens):
        logits = []
        for s in range(len(tokens)):
            normed = (tokens[s] - mean[s]) / deviation[s] * reducer.norm.weight + reducer.norm.bias
            logits.append(float(normed @ reducer.score.weight[p] + reducer.position[p, s]))
        weights = [math.exp(logit - max(logits)) for logit in logits]
        rows.append([weight / sum(weights) for weight in weights])
    return rows


def harden(rows: list[list[float]]) -> list[list[float]]:
    hard = [[0.0] * len(row) for row in rows]
    for s in range(len(rows[0])):
        best = max(range(len(rows)), key=lambda p: (rows[p][s], -p))
        hard[best][s] = rows[best][s]
    return [[weight / sum(row) for weight in row] if any(row) else soft for row, soft in zip(hard, rows, strict=True)]


@given(mergings())
@settings(deadline=None)
def test_the_mask_is_what_its_definition_says_and_merging_is_its_mean(case: tuple[LearnedMerging, Tensor]) -> None:
    reducer, tokens = case
    merged = reducer.merge(reducer.mask(tokens), tokens)
    for image, mask, out in zip(tokens, reducer.mask(tokens), merged, strict=True):
        rows = soft_mask(reducer, image)
        rows = harden(rows) if reducer.variant == "hard" else rows
        torch.testing.assert_close(mask, torch.tensor(rows), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(out, torch.tensor(rows) @ image, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(merged.new_ones(mask.shape[0]), mask.sum(dim=-1))


@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
@settings(deadline=None)
def test_the_best_target_is_the_first_of_those_in_which_a_source_weighs_most(
    batch: int, targets: int, sources: int, seed: int
) -> None:
    torch.manual_seed(seed)
    mask = torch.randint(0, 3, (batch, targets, sources)).float()
    for rows, best in zip(mask.tolist(), best_targets(mask).tolist(), strict=True):
        assert best == [max(range(targets), key=lambda p: (rows[p][s], -p)) for s in range(sources)]


def test_the_prefix_goes_through_untouched_and_patches_are_followed_to_their_tokens() -> None:
    torch.manual_seed(0)
    reducer = LearnedMerging(9, 4, 8, (3, 3))
    x = torch.randn(2, 2 + 9, 8)
    origin = torch.randint(0, 9, (2, 16))
    stream = reducer(Stream(x, 2, origin, torch.ones(2, 9)), None)
    mask = reducer.mask(x[:, 2:])
    assert stream.x.shape == (2, 2 + 4, 8) and torch.equal(stream.x[:, :2], x[:, :2])
    assert torch.equal(stream.x[:, 2:], mask @ x[:, 2:])
    expected = [[int(mask[b, :, origin[b, n]].argmax()) for n in range(16)] for b in range(2)]
    assert stream.origin is not None and stream.origin.tolist() == expected
    assert stream.size is None
    assert reducer(Stream(x, 2, None), None).origin is None


def test_a_fresh_reducer_shrinks_a_grid_as_area_resampling_does() -> None:
    torch.manual_seed(0)
    reducer = LearnedMerging(36, 9, 4, (6, 6))
    tokens = torch.randn(1, 36, 4)
    pooled = torch.nn.functional.avg_pool2d(tokens.transpose(1, 2).unflatten(2, (6, 6)), 2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(reducer.merge(reducer.mask(tokens), tokens), pooled, atol=0.05, rtol=0)


@pytest.mark.parametrize("variant", ["soft", "hard"])
def test_a_fresh_reducer_spreads_any_number_of_targets_along_the_line(variant: Variant) -> None:
    torch.manual_seed(0)
    reducer = LearnedMerging(10, 4, 8, (2, 5), variant).eval()
    targets = best_targets(reducer.mask(torch.randn(1, 10, 8)))[0].tolist()
    assert targets == sorted(targets) and set(targets) == {0, 1, 2, 3}


@pytest.mark.parametrize("variant", ["soft", "hard"])
def test_every_weight_gets_a_gradient_in_training(variant: Variant) -> None:
    torch.manual_seed(0)
    reducer = LearnedMerging(9, 4, 8, (3, 3), variant).train()
    x = torch.randn(2, 1 + 9, 8)
    (reducer(Stream(x, 1, None), None).x * torch.randn(2, 5, 8)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in reducer.parameters())


def test_training_and_inference_answer_alike_in_the_hard_variant() -> None:
    torch.manual_seed(0)
    reducer = LearnedMerging(9, 4, 8, (3, 3), "hard")
    tokens = torch.randn(2, 9, 8)
    torch.testing.assert_close(reducer.train().mask(tokens), reducer.eval().mask(tokens))


def test_a_target_to_which_nothing_came_stays_the_soft_mean() -> None:
    reducer = LearnedMerging(3, 2, 2, variant="hard").eval()
    with torch.no_grad():
        reducer.score.weight.zero_()
        reducer.position.copy_(torch.zeros(2, 3))  # both alike: all sources go to the first
    mask = reducer.mask(torch.randn(1, 3, 2))
    torch.testing.assert_close(mask, torch.full((1, 2, 3), 1 / 3))


def test_the_gap_is_the_least_step_to_the_next_best_target() -> None:
    mask = torch.tensor([[[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]]])
    assert best_gap(mask).tolist() == pytest.approx([(0.3 - 0.1) / (0.7 - 0.1)])
    assert best_gap(mask[:, :1]).tolist() == [1.0]
    x = torch.randn(2, 1 + 9, 8)
    assert LearnedMerging(9, 4, 8, (3, 3)).gap(Stream(x, 1, None), None) is None, "a soft mask chooses nothing"
    reducer = LearnedMerging(9, 4, 8, (3, 3), "hard").eval()
    gap = reducer.gap(Stream(x, 1, None), None)
    assert gap is not None
    assert torch.equal(gap, best_gap(reducer.mask(x[:, 1:])))


@pytest.mark.parametrize(
    "grid, tokens, expected",
    [((14, 14), 49, (7, 7)), ((14, 14), 196, (14, 14)), ((14, 14), 50, None), ((8, 4), 8, (4, 2)), ((3, 2), 2, None)],
)
def test_a_target_grid_keeps_the_aspect(grid: tuple[int, int], tokens: int, expected: tuple[int, int] | None) -> None:
    assert target_grid(grid, tokens) == expected


@pytest.mark.parametrize("tokens", [0, 9, 10, -1])
def test_a_number_of_targets_that_merges_nothing_or_all_away_is_refused(tokens: int) -> None:
    with pytest.raises(InputError, match=rf"merging 9 tokens into {tokens}; give 1 to 8"):
        LearnedMerging(9, tokens, 4)


def test_a_grid_that_does_not_hold_the_sources_is_refused() -> None:
    with pytest.raises(InputError, match="a grid of 2 x 4 for 9 tokens"):
        LearnedMerging(9, 4, 4, (2, 4))
