from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.models.evit import FusedSelection
from edgevit.models.reduction import Attended, Stream


@given(
    st.integers(1, 3), st.integers(3, 9), st.integers(1, 2), st.lists(st.sampled_from([0.0, 0.1, 0.3]), min_size=27),
    st.data(),
)  # fmt: skip
@settings(deadline=None)
def test_it_takes_what_cls_attends_to_and_fuses_the_rest(
    batch: int, n: int, prefix: int, attention: list[float], data: st.DataObject
) -> None:
    tokens = data.draw(st.integers(2, n - 1))
    score = torch.tensor(attention[: batch * n]).reshape(batch, n)
    x = torch.randn(batch, prefix + n, 4)
    out = FusedSelection(tokens, prefix)(Stream(x, prefix, torch.arange(n).expand(batch, -1)), Attended(x, None, score))
    assert out.x.shape == (batch, prefix + tokens, 4)
    assert out.origin is not None
    assert torch.equal(out.x[:, :prefix], x[:, :prefix])
    for b in range(batch):
        row = score[b].tolist()
        chosen = sorted(sorted(range(n), key=lambda i: (-row[i], i))[: tokens - 1])
        rest = [i for i in range(n) if i not in chosen]
        assert torch.equal(out.x[b, prefix:-1], x[b, prefix:][chosen])
        weight = score[b, rest]
        mean = (weight[:, None] * x[b, prefix:][rest]).sum(dim=0) / weight.sum().clamp(min=1e-30)
        torch.testing.assert_close(out.x[b, -1], mean)
        assert out.origin[b].tolist() == [chosen.index(i) if i in chosen else tokens - 1 for i in range(n)]


def test_a_token_fused_before_is_one_of_many() -> None:
    x = torch.randn(1, 7, 2)
    first = FusedSelection(4, 1)(
        Stream(x, 1, torch.arange(6)[None]), Attended(x, None, torch.tensor([[0.3, 0.0, 0.2, 0.1, 0.3, 0.0]]))
    )
    assert first.origin is not None
    assert first.origin.tolist() == [[0, 3, 1, 3, 2, 3]]
    kept = FusedSelection(3, 1)(first, Attended(first.x, None, torch.tensor([[0.1, 0.5, 0.0, 0.4]])))
    assert kept.origin is not None
    assert torch.equal(kept.x[:, 2], first.x[:, 4]), "the fused token was chosen"
    assert kept.origin.tolist() == [[2, 1, 0, 1, 2, 1]]
    again = FusedSelection(3, 1)(first, Attended(first.x, None, torch.tensor([[0.5, 0.4, 0.0, 0.1]])))
    assert again.origin is not None
    assert torch.equal(again.x[:, 3], first.x[:, 4]), "and is all that is fused where only it has weight"
    assert again.origin.tolist() == [[0, 2, 1, 2, 2, 2]]


def test_gradients_reach_every_token() -> None:
    x = torch.randn(1, 7, 2, requires_grad=True)
    out = FusedSelection(3, 1)(Stream(x, 1, None), Attended(x, None, torch.rand(1, 6) + 0.1))
    assert out.origin is None
    out.x.sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


def test_the_gap_is_the_step_after_the_last_chosen() -> None:
    x = torch.randn(1, 5, 2)
    attended = Attended(x, None, torch.tensor([[0.0, 1.0, 4.0, 2.0]]))
    assert FusedSelection(3, 1).gap(Stream(x, 1, None), attended).tolist() == [0.25]


def test_a_backbone_without_cls_is_refused() -> None:
    with pytest.raises(
        InputError, match="evit chooses tokens by the attention of CLS, and this backbone has none; use"
    ):
        FusedSelection(4, 0)


def test_a_single_token_is_refused() -> None:
    with pytest.raises(InputError, match="evit to 1 tokens; give 2 or more"):
        FusedSelection(1, 1)
