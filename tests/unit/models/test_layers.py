from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgevit.models.layers import (
    Attend,
    Attention,
    Block,
    conv_stem,
    decomposed_attention,
    fused_attention,
    patch_stem,
)
from edgevit.models.tokens import hide

FORMS = pytest.mark.parametrize("attend", [fused_attention, decomposed_attention])


def weighted(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights far from their small initial values, so that a wrong term shows."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


def slow_attention(module: Attention, x: list[list[float]], mask: list[float]) -> list[list[float]]:
    """Self-attention of one sequence, N x D, number by number in double precision; `mask` is added per key."""
    width, d = len(x[0]), len(x[0]) // module.heads
    q, k, v = (linear(module.qkv, x, part * width, width) for part in range(3))
    mixed = [[0.0] * width for _ in x]
    for i in range(len(x)):
        for head in range(module.heads):
            channels = range(head * d, (head + 1) * d)
            logits = [sum(q[i][c] * k[j][c] for c in channels) / math.sqrt(d) + mask[j] for j in range(len(x))]
            weights = [math.exp(value - max(logits)) for value in logits]
            for c in channels:
                mixed[i][c] = sum(w * v[j][c] for j, w in enumerate(weights)) / sum(weights)
    return linear(module.out, mixed, 0, width)


def linear(layer: nn.Linear, x: list[list[float]], first: int, rows: int) -> list[list[float]]:
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [
        [sum(w * value for w, value in zip(weight[r], row, strict=True)) + bias[r] for r in range(first, first + rows)]
        for row in x
    ]


@FORMS
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("hidden", [[], [2], [1, 2, 3]])
def test_attention_is_what_the_formula_says(attend: Attend, heads: int, hidden: list[int]) -> None:
    module = weighted(Attention(8, heads, attend))
    assert isinstance(module, Attention)
    x = torch.randn(2, 5, 8)
    active = torch.tensor([[i not in hidden for i in range(1, 5)]] * 2)
    mask = hide(active)
    wanted = [slow_attention(module, row, mask[0, 0, 0].tolist()) for row in x.tolist()]
    torch.testing.assert_close(module(x, mask), torch.tensor(wanted), atol=2e-5, rtol=1e-5)


@FORMS
def test_a_mask_is_the_same_as_leaving_the_hidden_tokens_out(attend: Attend) -> None:
    module = weighted(Attention(8, 2, attend))
    x, active = torch.randn(1, 6, 8), torch.tensor([[True, False, False, True, False]])
    seen = [0, 1, 4]
    torch.testing.assert_close(module(x, hide(active))[:, seen], module(x[:, seen]), atol=1e-5, rtol=1e-5)


@given(st.integers(1, 3), st.integers(1, 9), st.sampled_from([(4, 1), (4, 2), (6, 3), (8, 8)]), st.booleans())
@settings(deadline=None, max_examples=40)
def test_both_forms_of_attention_agree(batch: int, length: int, sizes: tuple[int, int], masked: bool) -> None:
    width, heads = sizes
    fused = weighted(Attention(width, heads))
    decomposed = copy.deepcopy(fused)
    decomposed.attend = decomposed_attention  # type: ignore[assignment]
    x = torch.randn(batch, length, width)
    mask = hide(torch.rand(batch, length - 1) < 0.5) if masked else None
    torch.testing.assert_close(fused(x, mask), decomposed(x, mask), atol=2e-5, rtol=1e-5)


def test_a_block_adds_attention_and_mlp_of_the_normalised_input() -> None:
    block = weighted(Block(8, 2, 12))
    assert isinstance(block, Block)
    x = torch.randn(2, 3, 8)
    after = x + block.attention(normalised(x, block.norm1[0]))
    hidden = block.mlp[0](normalised(after, block.norm2[0]))
    gelu = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
    torch.testing.assert_close(block(x), after + block.mlp[2](gelu), atol=2e-5, rtol=1e-5)


def normalised(x: Tensor, norm: nn.Module) -> Tensor:
    assert isinstance(norm, nn.LayerNorm)
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(dim=-1, keepdim=True) + 1e-6) * norm.weight + norm.bias


def test_a_block_of_one_norm_does_the_same_at_every_step() -> None:
    block, x = weighted(Block(8, 2, 12)), torch.randn(1, 3, 8)
    assert torch.equal(block(x, 0), block(x, 3))


@pytest.mark.parametrize("norms", ["norm1", "norm2"])
@pytest.mark.parametrize("changed", [0, 1, 2])
def test_a_step_has_norms_of_its_own_and_shares_the_matrices(norms: str, changed: int) -> None:
    block, x = weighted(Block(8, 2, 12, norms=3)), torch.randn(1, 3, 8)
    before = [block(x, step) for step in range(3)]
    nn.init.normal_(getattr(block, norms)[changed].weight)
    same = [torch.equal(block(x, step), before[step]) for step in range(3)]
    assert same == [step != changed for step in range(3)]
    assert block.get_submodule("attention.qkv").weight.shape == (24, 8)


@given(st.integers(1, 4), st.sampled_from([1, 2, 4, 8]), st.integers(1, 3), st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_stems_give_one_vector_a_patch(rows: int, patch: int, batch: int, width: int) -> None:
    image = torch.randn(batch, 3, rows * patch, (rows + 1) * patch)
    for stem in (patch_stem(width, patch), conv_stem(width, patch).eval()):
        assert stem(image).shape == (batch, width, rows, rows + 1)


def test_the_patch_stem_is_one_matrix_for_every_patch() -> None:
    stem, image = patch_stem(5, 4), torch.randn(1, 3, 8, 12)
    assert isinstance(stem, nn.Conv2d)
    for row in range(2):
        for column in range(3):
            patch = image[0, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten()
            wanted = stem.weight.flatten(1) @ patch + stem.bias
            torch.testing.assert_close(stem(image)[0, :, row, column], wanted, atol=1e-5, rtol=1e-5)


def test_the_conv_stem_is_known_to_be_cheap_at_inference() -> None:
    # Every convolution but the last is followed by a norm it can take in, and by a ReLU a runtime fuses.
    kinds = [type(layer) for layer in conv_stem(128, 8).children()]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 3 + [nn.Conv2d]
