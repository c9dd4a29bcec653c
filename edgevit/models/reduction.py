"""Token reduction inside a Vision Transformer: the words that backbones, reducers and what joins them share.

B images, N patches, n tokens still going (the prefix of CLS and perhaps a distillation token not counted), p tokens of
prefix, D channels, h heads. Every count is a Python int, so that a traced graph has constant shapes. A backbone is
opened into blocks of two halves, attention and MLP; a reducer is a module at one block that lets fewer tokens through
than came. The prefix stands first, is never reduced and never merged with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

__all__ = [
    "Attended",
    "HasInferenceForm",
    "Reduced",
    "ReducedAt",
    "ReducedModel",
    "Reducer",
    "SequenceBackbone",
    "Stream",
]


@dataclass(frozen=True)
class ReducedAt:
    """One reduction of a schedule.

    Attributes:
        block: 0-based block it sits at; in a hierarchical backbone counted through all stages.
        tokens: how many tokens go on from there, the prefix not counted.
    """

    block: int
    tokens: int


class Stream(NamedTuple):
    """What flows from block to block."""

    x: Tensor  # B x (p + n) x D: the prefix, then the tokens
    prefix: int  # p, 0 or more
    # B x N int64: the token that each patch is part of, 0 to n - 1; -1 where it was dropped; None if nobody asks
    origin: Tensor | None
    size: Tensor | None = None  # B x n float32: patches that each token stands for; None while each stands for one
    keep: Tensor | None = None  # B x n float32, in training only: 1 for tokens that go on, 0 for those masked out


class Attended(NamedTuple):
    """The first half of a block, x + attention(norm(x)), and what reducers judge tokens by."""

    x: Tensor  # B x (p + n) x D
    keys: Tensor | None  # B x n x d: the tokens' keys, the mean over the heads; None if not asked for
    cls_attention: Tensor | None  # B x n: CLS's attention to the tokens, the mean over the heads; None if not asked for


class Reduced(NamedTuple):
    """The outcome of one forward pass of a reduced model."""

    logits: Tensor  # B x C
    features: Tensor  # B x F: what the head read
    # B x N int32: the output token that each patch is part of; -1 where it was dropped; None if nobody asked
    assignment: Tensor | None
    keep_shares: tuple[Tensor, ...] = ()  # in training: the share of tokens each learned keep mask let through, B each
    gap: Tensor | None = None  # B float32: the least step that decided a choice (`Reducer.gap`); None if not asked for


class Reducer(nn.Module):
    """A module at one block of a sequence backbone: n tokens in, a constant number out.

    Attributes:
        tokens: how many go on.
        place: `before` the block's attention, or `after` it, between attention and MLP.
        needs_keys: whether it judges tokens by the keys of the block's attention.
        needs_cls_attention: whether it judges them by the attention CLS pays them.
    """

    tokens: int
    place: Literal["before", "after"] = "after"
    needs_keys: bool = False
    needs_cls_attention: bool = False

    def forward(self, stream: Stream, attended: Attended | None) -> Stream:
        """The stream with fewer tokens.

        Args:
            stream: its `x` is what is reduced: placed `after`, it has the attention added already.
            attended: of this block; None for a reducer placed before it.
        """
        raise NotImplementedError

    def gap(self, stream: Stream, attended: Attended | None) -> Tensor | None:
        """How clearly this reducer chooses, B float32: the least step between scores that decided, of their spread.

        A runtime whose rounding is coarser than the step may choose otherwise. None for a reducer that chooses nothing.
        """
        return None


class SequenceBackbone(Protocol):
    """A plain Vision Transformer, opened: blocks of two halves over a prefix and N patches in row-major order."""

    grid: tuple[int, int]
    prefix: int
    depth: int
    width: int

    def embed(self, image: Tensor) -> Tensor:
        """B x 3 x H x W to B x (p + N) x D, what the first block takes."""

    def attend(self, block: int, stream: Stream, *, keys: bool = False, cls_attention: bool = False) -> Attended:
        """The first half of a block.

        Tokens that stand for several patches weigh as much: log(size) is added to their attention logits (proportional
        attention, ToMe section 3). Tokens masked out by `keep` are seen by nobody but themselves.
        """

    def feed(self, block: int, x: Tensor) -> Tensor:
        """The second half, x + mlp(norm(x)): B x n x D to the same."""

    def read(self, stream: Stream) -> tuple[Tensor, Tensor]:
        """The features B x F and the logits B x C; a mean over the patches weighs each token by its size."""


@runtime_checkable
class HasInferenceForm(Protocol):
    """A module that knows best how to become one for inference."""

    def inference_form(self) -> nn.Module:
        """A copy on the CPU, in eval mode and without gradients, that answers the same and traces well."""


@runtime_checkable
class ReducedModel(Protocol):
    """A classifier whose tokens are reduced on the way, over a sequence or over a grid."""

    grid: tuple[int, int]
    tokens_per_block: tuple[int, ...]

    def reduce(self, image: Tensor, *, trace: bool = True, gaps: bool = False) -> Reduced:
        """One forward pass, B x 3 x H x W, with what became of the patches where `trace` asks for it."""
