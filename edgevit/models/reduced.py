"""A plain Vision Transformer with reducers at some of its blocks: fewer tokens from block to block."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgevit.models.dense_parts import DenseParts
from edgevit.models.fitting import check_weights
from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.models.reduced_config import ReducedConfig, check_schedule
from edgevit.models.reduction import Reduced, ReducedAt, Reducer, SequenceBackbone, Stream

__all__ = ["ReducedViT", "build_reducers", "reduced_model"]


class ReducedViT(nn.Module):
    """A sequence backbone and the reducers at its blocks.

    Attributes:
        config: what it is made of.
        backbone: a `SequenceBackbone`, itself a module that holds the plain model as `model`.
        reducers: by number of the block, as text.
        grid: rows and columns of patches.
        tokens_per_block: tokens that leave each block in eval mode, the prefix not counted.
    """

    def __init__(self, config: ReducedConfig, backbone: nn.Module, reducers: nn.ModuleDict) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.reducers = reducers
        self.grid = self._parts.grid
        left = {at.block: at.tokens for at in config.schedule}
        n = self.grid[0] * self.grid[1]
        counts = [n := left.get(block, n) for block in range(self._parts.depth)]
        self.tokens_per_block: tuple[int, ...] = tuple(counts)

    @property
    def _parts(self) -> SequenceBackbone:
        return self.backbone  # type: ignore[return-value]

    def _reducer(self, block: int) -> Reducer | None:
        return self.reducers[str(block)] if str(block) in self.reducers else None  # type: ignore[return-value]

    def forward(self, image: Tensor) -> Tensor:
        """B x 3 x H x W to logits B x C."""
        return self.reduce(image, trace=False).logits

    def reduce(self, image: Tensor, *, trace: bool = True, gaps: bool = False) -> Reduced:
        """One forward pass, with what became of the patches.

        Args:
            image: B x 3 x H x W.
            trace: whether `assignment` is followed from block to block; None without.
            gaps: whether to measure how clearly each choice was made; in eval mode.
        """
        parts = self._parts
        x = parts.embed(image)
        n = x.shape[1] - parts.prefix
        origin = torch.arange(n, device=x.device).expand(x.shape[0], -1) if trace else None
        stream = Stream(x, parts.prefix, origin)
        shares: list[Tensor] = []
        steps: list[Tensor] = []
        for block in range(parts.depth):
            reducer = self._reducer(block)
            if reducer is not None and reducer.place == "before":
                steps += [gap for gap in [reducer.gap(stream, None)] if gap is not None] if gaps else []
                stream = reducer(stream, None)
                shares += [stream.keep.mean(dim=1)] if stream.keep is not None else []
            after = reducer if reducer is not None and reducer.place == "after" else None
            attended = parts.attend(
                block,
                stream,
                keys=after is not None and after.needs_keys,
                cls_attention=after is not None and after.needs_cls_attention,
            )
            stream = stream._replace(x=attended.x)
            if after is not None:
                steps += [gap for gap in [after.gap(stream, attended)] if gap is not None] if gaps else []
                stream = after(stream, attended)
            stream = stream._replace(x=parts.feed(block, stream.x))
        features, logits = parts.read(stream)
        return Reduced(
            logits,
            features,
            None if stream.origin is None else stream.origin.to(torch.int32),
            tuple(shares),
            torch.stack(steps).amin(dim=0).float() if steps else None,
        )

    def load_plain(self, weights: Mapping[str, Tensor], where: str = "weights") -> tuple[str, ...]:
        """Take the weights of the plain model; they must be exactly its own.

        Args:
            weights: by the names of the plain model's state dict.
            where: what they are, for errors: the file's path.

        Returns:
            Names of the reducers' weights, which stay as they are.

        Raises:
            InputError: they are another model's.
        """
        plain: nn.Module = self.backbone.model  # type: ignore[assignment]
        check_weights(plain, weights, where)
        plain.load_state_dict(dict(weights))
        return tuple(f"reducers.{name}" for name in self.reducers.state_dict())


def build_reducers(config: ReducedConfig, backbone: SequenceBackbone) -> nn.ModuleDict:
    """The reducers of a schedule, with fresh weights; none at a block that lets all its tokens through.

    Raises:
        InputError: the schedule does not fit the backbone.
    """
    n = backbone.grid[0] * backbone.grid[1]
    check_schedule(config.method, config.schedule, n, backbone.depth)
    reducers = nn.ModuleDict()
    for at in config.schedule:
        if at.tokens < n:
            reducers[str(at.block)] = _reducer(config, backbone, at, n)
        n = at.tokens
    return reducers


def _reducer(config: ReducedConfig, backbone: SequenceBackbone, at: ReducedAt, sources: int) -> Reducer:
    if config.method == "tome":
        from edgevit.models.tome import TokenMerging

        return TokenMerging(sources, at.tokens, backbone.prefix)
    if config.method == "evit":
        from edgevit.models.evit import FusedSelection

        return FusedSelection(at.tokens, backbone.prefix)
    if config.method == "dynamicvit":
        from edgevit.models.dynamicvit import LearnedSelection

        return LearnedSelection(at.tokens, backbone.width)
    from edgevit.models.ltm import LearnedMerging

    rows, columns = backbone.grid  # of the patches, which merged tokens do not lie on any more
    grid = backbone.grid if rows * columns == sources else None
    return LearnedMerging(sources, at.tokens, backbone.width, grid, config.variant)


def reduced_model(config: ReducedConfig) -> nn.Module:
    """A reduced model with fresh weights: a `ReducedViT`, or a `GridReducedViT` on a two-dimensional backbone.

    Raises:
        InputError: the schedule does not fit the backbone, or the backbone cannot carry the method.
    """
    if isinstance(config.base, RecursiveConfig):
        backbone = DenseParts(RecursiveViT(config.base))
        return ReducedViT(config, backbone, build_reducers(config, backbone))
    from edgevit.models.reduced_timm import build_reduced_timm  # here, because it needs timm

    return build_reduced_timm(config)
