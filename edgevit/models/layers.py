"""The parts of a Vision Transformer: stems, attention, MLP, block. B images, N tokens, D channels, h heads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Attend", "Attention", "Block", "conv_stem", "decomposed_attention", "fused_attention", "patch_stem"]

# (q, k, v: B x h x N x d, additive mask broadcastable to B x h x N x N or None) -> B x h x N x d
Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v by torch's fused kernel: the form for training."""
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def decomposed_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """The same with the scale on q before the first product: the form TensorRT's fused attention matches."""
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if mask is not None:
        logits = logits + mask
    return torch.softmax(logits, dim=-1) @ v


class Attention(nn.Module):
    """Multi-head self-attention with one projection for q, k and v."""

    def __init__(self, width: int, heads: int, attend: Attend = fused_attention) -> None:
        super().__init__()
        self.heads = heads
        self.attend = attend
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """B x N x D and an additive mask broadcastable to B x h x N x N give B x N x D."""
        batch, length, width = x.shape
        # The heads of q, k and v side by side: one transpose for the three, then a split of the axis of heads.
        stacked = self.qkv(x).reshape(batch, length, 3 * self.heads, width // self.heads).transpose(1, 2)  # b 3h n d
        q, k, v = stacked.split(self.heads, dim=1)
        mixed: Tensor = self.out(self.attend(q, k, v, mask).transpose(1, 2).reshape(batch, length, width))
        return mixed


class Block(nn.Module):
    """Pre-norm transformer block whose LayerNorms may differ by recursion step while its matrices are shared.

    Args:
        width: D.
        heads: h, a divisor of D.
        hidden: width of the MLP's hidden layer.
        norms: how many pairs of LayerNorms to keep: 1, or one a recursion step.
    """

    def __init__(self, width: int, heads: int, hidden: int, norms: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(norms))
        self.attention = Attention(width, heads)
        self.norm2 = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(norms))
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, step: int = 0, mask: Tensor | None = None) -> Tensor:
        """B x N x D to B x N x D at recursion step `step` (0-based)."""
        norm = step if len(self.norm1) > 1 else 0
        x = x + self.attention(self.norm1[norm](x), mask)
        x = x + self.mlp(self.norm2[norm](x))
        return x


def patch_stem(width: int, patch: int) -> nn.Module:
    """One convolution of patch size and stride: B x 3 x H x W to B x D x H/patch x W/patch."""
    return nn.Conv2d(3, width, patch, stride=patch)


def conv_stem(width: int, patch: int) -> nn.Module:
    """Convolutions of stride two down to the patch grid (Xiao et al. 2021, arXiv 2106.14881, section 3).

    B x 3 x H x W to B x D x H/patch x W/patch; `patch` is a power of two. ReLU, because it fuses into the
    convolution at inference, while a GELU over the first maps would cost as much as half a block.
    """
    doublings = patch.bit_length() - 1
    layers: list[nn.Module] = []
    channels = 3
    for i in reversed(range(doublings)):
        out = max(width >> i, 16)
        layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        channels = out
    layers.append(nn.Conv2d(channels, width, 1))
    return nn.Sequential(*layers)
