from __future__ import annotations

import pytest
import torch

from edgevit.errors import InputError
from edgevit.models import tokens
from edgevit.models.reduction import Attended, Stream
from edgevit.models.tome import TokenMerging


def stream(x: torch.Tensor, prefix: int) -> Stream:
    return Stream(x, prefix, torch.arange(x.shape[1] - prefix).expand(len(x), -1))


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_two_merges_follow_sizes_and_patches(prefix: int) -> None:
    x = torch.randn(2, prefix + 12, 8)
    merged = stream(x, prefix)
    for sources, left in ((12, 8), (8, 4)):
        reducer = TokenMerging(sources, left, prefix)
        merged = reducer(merged, Attended(merged.x, merged.x[:, prefix:], None))
        assert merged.x.shape == (2, prefix + left, 8)
        assert merged.size is not None
        assert merged.size.sum(dim=1).tolist() == [12, 12]
    assert merged.origin is not None
    assert torch.equal(merged.x[:, :prefix], x[:, :prefix]), "the prefix is never merged"
    for b in range(2):
        for token in range(4):
            patches = (merged.origin[b] == token).nonzero().flatten()
            assert len(patches) == merged.size[b, token]  # type: ignore[index]
            torch.testing.assert_close(merged.x[b, prefix + token], x[b, prefix + patches].mean(dim=0))


def test_nobody_follows_the_patches_where_nobody_asks() -> None:
    x = torch.randn(1, 9, 4)
    merged = TokenMerging(8, 5, 1)(Stream(x, 1, None), Attended(x, x[:, 1:], None))
    assert merged.origin is None


def test_it_is_judged_by_the_keys_and_merges_what_flows() -> None:
    x, keys = torch.randn(1, 9, 4), torch.randn(1, 8, 3)
    merged = TokenMerging(8, 6, 1)(stream(x, 1), Attended(torch.zeros_like(x), keys, None))
    wanted, _ = tokens.merge(x, None, tokens.match(keys, 2, 1), 1)
    assert torch.equal(merged.x, wanted)


def test_its_gap_is_that_of_the_matching() -> None:
    x = torch.randn(3, 9, 4)
    gap = TokenMerging(8, 6, 1).gap(stream(x, 1), Attended(x, x[:, 1:], None))
    assert gap.tolist() == tokens.match_gap(x[:, 1:], 2, 1).tolist()


def test_it_has_nothing_to_learn() -> None:
    assert not TokenMerging(8, 6, 1).state_dict()


@pytest.mark.parametrize("left", [0, 3, 8, 9])
def test_more_than_half_or_nothing_is_refused(left: int) -> None:
    with pytest.raises(InputError, match=f"a merge of 8 tokens to {left}; one merge leaves 4 to 7"):
        TokenMerging(8, left, 1)
