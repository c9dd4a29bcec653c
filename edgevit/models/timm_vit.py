"""A timm VisionTransformer, opened into the halves of its blocks. It is held as it is; the attention is our own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevit.models.backbone import TimmClassifier, require_sequence
from edgevit.models.backbone_config import TimmConfig
from edgevit.models.reduction import Attended, Stream

__all__ = ["TimmViT"]


class TimmViT(nn.Module):
    """A plain ViT or DeiT of timm's as a `SequenceBackbone`.

    With nothing reduced it answers as the model itself does, to rounding: the attention is decomposed here.

    Attributes:
        model: timm's, untouched.
        config: which of timm's it is.
        grid: rows and columns of patches.
        prefix: tokens before the patches: CLS, a distillation token, registers; 0 where the head reads the mean alone.
        depth: blocks.
        width: D.
        has_cls: whether the first token is CLS.

    Raises:
        InputError: it does not come apart; the line says why and which backbones do.
    """

    def __init__(self, classifier: TimmClassifier) -> None:
        super().__init__()
        model: Any = classifier.model
        require_sequence(classifier.config.name, model)
        self.model = model
        self.config: TimmConfig = classifier.config
        self.grid: tuple[int, int] = tuple(model.patch_embed.grid_size)
        self.prefix: int = model.num_prefix_tokens
        self.depth: int = len(model.blocks)
        self.width: int = model.embed_dim
        self.has_cls: bool = model.cls_token is not None

    def embed(self, image: Tensor) -> Tensor:
        """B x 3 x H x W to B x (p + N) x D."""
        return self.model.norm_pre(self.model._pos_embed(self.model.patch_embed(image)))

    def attend(self, block: int, stream: Stream, *, keys: bool = False, cls_attention: bool = False) -> Attended:
        """x + attention(norm(x)) of one block, with the weights of merged tokens and without masked ones."""
        part = self.model.blocks[block]
        attention, x, p = part.attn, stream.x, self.prefix
        batch, length, _ = x.shape
        normed = part.norm1(x)
        heads, depth = attention.num_heads, attention.head_dim
        stacked = attention.qkv(normed).reshape(batch, length, 3 * heads, depth).transpose(1, 2)  # b 3h n d
        q, k, v = stacked.split(heads, dim=1)
        q, k = attention.q_norm(q), attention.k_norm(k)
        # The scale is on q before the product: the form that TensorRT's fused attention matches.
        logits = (q * attention.scale) @ k.transpose(-2, -1)
        if stream.size is not None:
            logits = logits + functional.pad(stream.size.log(), (p, 0))[:, None, None, :]
        weights = torch.softmax(logits, dim=-1) if stream.keep is None else _seeing(logits, stream.keep, p)
        mixed = (attention.attn_drop(weights) @ v).transpose(1, 2).reshape(batch, length, attention.attn_dim)
        mixed = attention.norm(mixed)
        if attention.gate is not None:
            mixed = mixed * attention.gate(normed).sigmoid()
        mixed = attention.proj_drop(attention.proj(mixed))
        return Attended(
            x + part.drop_path1(part.ls1(mixed)),
            k[:, :, p:].mean(dim=1) if keys else None,
            weights[:, :, 0, p:].mean(dim=1) if cls_attention else None,
        )

    def feed(self, block: int, x: Tensor) -> Tensor:
        """x + mlp(norm(x)) of one block."""
        part = self.model.blocks[block]
        return x + part.drop_path2(part.ls2(part.mlp(part.norm2(x))))

    def read(self, stream: Stream) -> tuple[Tensor, Tensor]:
        """Features B x F and logits B x C by timm's own head."""
        model, p = self.model, self.prefix
        if model.global_pool == "token":
            x = model.norm(stream.x[:, :p])
            return model.forward_head(x, pre_logits=True), model.forward_head(x)
        tokens = model.norm(stream.x)[:, p:]
        weights = [weight for weight in (stream.size, stream.keep) if weight is not None]
        if weights:
            weight = torch.stack(weights).prod(dim=0) if len(weights) > 1 else weights[0]
            total = weight.sum(dim=1, keepdim=True)
            if stream.keep is not None:
                total = total.clamp(min=1.0)  # a mask that was drawn may let no patch through
            pooled = (tokens * (weight / total)[:, :, None]).sum(dim=1)
        else:
            pooled = tokens.mean(dim=1)
        features = model.head_drop(model.fc_norm(pooled))
        return features, model.head(features)


def _seeing(logits: Tensor, keep: Tensor, prefix: int) -> Tensor:
    """softmax over the tokens that go on, and over oneself: B x h x L x L logits and B x n of 0 and 1.

    A product, so that a gradient reaches the mask where it is 0 (DynamicViT, arXiv 2106.02034, equation 11); the
    largest logit of all is taken off, so that what is masked out cannot overflow.
    """
    seen = functional.pad(keep, (prefix, 0), value=1.0)[:, None, None, :]
    oneself = torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    weights = (logits - logits.amax(dim=-1, keepdim=True)).exp() * (seen + (1 - seen) * oneself)
    return weights / (weights.sum(dim=-1, keepdim=True) + torch.finfo(logits.dtype).tiny)
