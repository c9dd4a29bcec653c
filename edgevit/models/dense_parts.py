"""edgevit's own plain ViT, opened into blocks of two halves for token reduction."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevit.errors import InputError
from edgevit.models.layers import Attention, Block, fused_attention
from edgevit.models.recursive import RecursiveViT
from edgevit.models.reduction import Attended, Stream

__all__ = ["DenseParts"]


class DenseParts(nn.Module):
    """A `RecursiveViT` of one recursion without a router, as a sequence backbone.

    Holds the model as it is, so that its weights keep their names under `model.`; without a reduction the answer is
    the model's, bit for bit where its attention is decomposed.

    Attributes:
        grid: rows and columns of patches.
        prefix: 1, CLS.
        depth: blocks, those outside of the shared stack too.
        width: D.

    Raises:
        InputError: a model that routes, repeats or merges.
    """

    prefix = 1

    def __init__(self, model: RecursiveViT) -> None:
        super().__init__()
        config = model.config
        if config.router != "none" or config.recursions != 1 or config.early_merge is not None:
            raise InputError("token reduction takes a plain ViT: one recursion, router 'none' and no early merge")
        self.model = model
        self.grid = config.grid
        self.width = config.width
        self.depth = len(self._blocks())

    def _blocks(self) -> list[Block]:
        outer = [block for block in (self.model.first, self.model.last) if block is not None]
        return [*outer[:1], *self.model.blocks, *outer[1:]]

    def embed(self, image: Tensor) -> Tensor:
        """B x 3 x H x W to B x (1 + N) x D."""
        model = self.model
        patches = model.stem(image).flatten(2).transpose(1, 2)
        return torch.cat([model.cls.expand(image.shape[0], -1, -1), patches], dim=1) + model.position

    def attend(self, block: int, stream: Stream, *, keys: bool = False, cls_attention: bool = False) -> Attended:
        """x + attention(norm(x)) of one block, by size and among those kept."""
        part, x = self._blocks()[block], stream.x
        attention = part.attention
        q, k, v = _split_heads(attention, part.norm1[0](x))
        mask = None if stream.size is None else _size_bias(stream.size, stream.prefix)
        weights = None
        if self.training and stream.keep is None and not cls_attention:
            mixed = fused_attention(q, k, v, mask)
        else:
            logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
            if mask is not None:
                logits = logits + mask
            weights = torch.softmax(logits, dim=-1) if stream.keep is None else _masked(logits, stream)
            mixed = weights @ v
        p = stream.prefix
        return Attended(
            x + attention.out(mixed.transpose(1, 2).reshape(x.shape)),
            k.mean(dim=1)[:, p:] if keys else None,
            weights[:, :, 0, p:].mean(dim=1) if cls_attention and weights is not None else None,
        )

    def feed(self, block: int, x: Tensor) -> Tensor:
        """x + mlp(norm(x)) of one block."""
        part = self._blocks()[block]
        return x + part.mlp(part.norm2[0](x))

    def read(self, stream: Stream) -> tuple[Tensor, Tensor]:
        """What the head reads, B x F, and the logits B x C."""
        model, p = self.model, stream.prefix
        pooled = []
        if "cls" in model.config.pool:
            pooled.append(model.norm(stream.x[:, :p])[:, 0])
        if "mean" in model.config.pool:
            pooled.append(_mean(model.norm(stream.x[:, p:]), stream))
        features = torch.cat(pooled, dim=-1) if len(pooled) > 1 else pooled[0]
        return features, model.head(features)


def _split_heads(attention: Attention, x: Tensor) -> tuple[Tensor, ...]:
    """q, k and v of a sequence, B x h x N x d each."""
    batch, length, width = x.shape
    heads = attention.heads
    stacked = attention.qkv(x).reshape(batch, length, 3 * heads, width // heads).transpose(1, 2)  # b 3h n d
    return stacked.split(heads, dim=1)


def _size_bias(size: Tensor, prefix: int) -> Tensor:
    """log(size) as an additive attention mask, B x 1 x 1 x (p + n): a token of s patches is seen s times."""
    return functional.pad(size.log(), (prefix, 0)).reshape(len(size), 1, 1, -1)


def _masked(logits: Tensor, stream: Stream) -> Tensor:
    """softmax over the tokens that `keep` lets through, and over oneself: B x h x L x L to the same.

    A product, so that a gradient reaches the mask where it is 0 (DynamicViT, arXiv 2106.02034, equation 11).
    """
    assert stream.keep is not None
    seen = functional.pad(stream.keep, (stream.prefix, 0), value=1.0)[:, None, None, :]
    oneself = torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    share = (logits - logits.detach().amax(dim=-1, keepdim=True)).exp() * (seen + (1 - seen) * oneself)
    return share / share.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(logits.dtype).tiny)


def _mean(patches: Tensor, stream: Stream) -> Tensor:
    """B x n x D to B x D: each token weighs as many patches as it stands for, one masked out nothing."""
    if stream.size is None and stream.keep is None:
        return patches.mean(dim=1)
    weight = torch.ones_like(patches[..., 0])
    for factor in (stream.size, stream.keep):
        weight = weight if factor is None else weight * factor
    total = weight.sum(dim=1, keepdim=True)
    if stream.keep is not None:
        total = total.clamp(min=1.0)  # a mask that was drawn may let no patch through
    return ((weight / total)[:, None, :] @ patches)[:, 0]
