"""Token merging without training (ToMe, Bolya et al. 2023, arXiv 2210.09461)."""

from __future__ import annotations

from torch import Tensor

from edgevit.errors import InputError
from edgevit.models import tokens
from edgevit.models.reduction import Attended, Reducer, Stream

__all__ = ["TokenMerging"]


class TokenMerging(Reducer):
    """The tokens whose keys are most alike become one, between attention and MLP; nothing is learned.

    Args:
        sources: tokens that come, the prefix not counted.
        tokens: tokens that go on: at least half of those that come, rounded up.
        prefix: tokens at the beginning of the sequence that are neither merged nor merged into.

    Raises:
        InputError: one merge cannot lead from the one count to the other.
    """

    needs_keys = True

    def __init__(self, sources: int, tokens: int, prefix: int) -> None:
        super().__init__()
        if not sources - sources // 2 <= tokens < sources:
            raise InputError(
                f"a merge of {sources} tokens to {tokens}; one merge leaves {sources - sources // 2} to {sources - 1}"
            )
        self.tokens = tokens
        self.merged = sources - tokens
        self.prefix = prefix

    def forward(self, stream: Stream, attended: Attended | None) -> Stream:
        """The stream with the most alike tokens merged, weighted by what they stand for."""
        length = stream.x.shape[1]
        matching = tokens.match(_keys(attended), self.merged, self.prefix)
        x, size = tokens.merge(stream.x, stream.size, matching, self.prefix)
        origin = stream.origin
        if origin is not None:
            origin = tokens.gather(tokens.successors(matching, length, self.prefix), origin)
        return Stream(x, stream.prefix, origin, size, stream.keep)

    def gap(self, stream: Stream, attended: Attended | None) -> Tensor:
        """How clearly the tokens were matched: `tokens.match_gap`."""
        return tokens.match_gap(_keys(attended), self.merged, self.prefix)


def _keys(attended: Attended | None) -> Tensor:
    assert attended is not None and attended.keys is not None, "asked for by `place` and `needs_keys`"
    return attended.keys
