"""The text of `--schedule`: where a method lets how many tokens through.

| method | text | meaning |
|---|---|---|
| tome | `13` | merge 13 tokens at every block |
| tome | `13,13,8,0,...` | merge so many, one entry a block |
| tome | `13:-0.5` | merge 13 on average, linearly from int(13 (1 + 0.5)) at the first block to 26 less that |
| evit, dynamicvit, ltm | `0.7` | keep that share at a quarter, half and three quarters of the blocks, each time anew |
| evit, dynamicvit, ltm | `3:128,7:64` | let 128 tokens through at block 3 and 64 at block 7 |

Blocks count from 0; CLS is never counted; EViT's fused token is.
"""

from __future__ import annotations

import math
import re

from edgevit.errors import InputError
from edgevit.models.reduced_config import check_schedule
from edgevit.models.reduction import ReducedAt
from edgevit.spec import Method

__all__ = ["parse_pairs", "parse_schedule", "schedule_text"]

_RATIO = 0.7  # the published models of EViT and DynamicViT; ours of LTM by analogy
_MERGED, _OF_PATCHES = 13, 196  # ToMe's ViT-S at 224 pixels


def parse_schedule(text: str | None, method: Method, patches: int, depth: int) -> tuple[ReducedAt, ...]:
    """What a schedule's text means on a backbone.

    A constant `r` of tome, with an inflection or without, is cut to half of the tokens where a late block has no more
    to give, as ToMe does; a list that asks for more than there is is refused.

    Args:
        text: None for the default: `0.7`; for tome 13 at 196 patches, in proportion for other counts.
        method: of reduction.
        patches: tokens that enter the first block.
        depth: blocks.

    Returns:
        Blocks that take tokens away; none where nothing does.

    Raises:
        InputError: the text is none of these, or asks for what the backbone cannot give.
    """
    if method == "tome":
        return _merges(text, patches, depth)
    text = str(_RATIO) if text is None else text.strip()
    if ":" in text:
        schedule = parse_pairs(text)
        check_schedule(method, schedule, patches, depth)
        return schedule
    ratio = _number(text)
    if ratio is None or not 0 < ratio <= 1:
        raise InputError(
            f"schedule '{text}' for {method}; give the share to keep, such as {_RATIO}, above 0 and up to 1, or "
            "BLOCK:TOKENS pairs, such as 3:98,6:68"
        )
    return _shares(ratio, method, patches, depth)


def parse_pairs(text: str) -> tuple[ReducedAt, ...]:
    """`3:128,7:64` as it stands, not yet held against a backbone.

    Raises:
        InputError: a part is no pair of whole numbers, or blocks are out of order, or tokens grow more.
    """
    schedule: list[ReducedAt] = []
    for part in text.split(","):
        pair = re.fullmatch(r"\s*(\d{1,6}):(\d{1,6})\s*", part, re.ASCII)
        if pair is None:
            raise InputError(f"'{part.strip()}' in schedule '{text}'; give BLOCK:TOKENS pairs, such as 3:128,7:64")
        at = ReducedAt(int(pair[1]), int(pair[2]))
        if at.tokens < 1:
            raise InputError(f"0 tokens after block {at.block} in schedule '{text}'; leave 1 or more")
        if schedule and at.block <= schedule[-1].block:
            raise InputError(
                f"block {at.block} after block {schedule[-1].block} in schedule '{text}'; give them in order"
            )
        if schedule and at.tokens > schedule[-1].tokens:
            raise InputError(
                f"{at.tokens} tokens after {schedule[-1].tokens} in schedule '{text}'; tokens never grow more"
            )
        schedule.append(at)
    return tuple(schedule)


def schedule_text(schedule: tuple[ReducedAt, ...], method: Method, patches: int, depth: int) -> str:
    """The text that `parse_schedule` reads as this schedule."""
    if method != "tome":
        return ",".join(f"{at.block}:{at.tokens}" for at in schedule) or "1"
    left = {at.block: at.tokens for at in schedule}
    merged, n = [], patches
    for block in range(depth):
        after = left.get(block, n)
        merged.append(n - after)
        n = after
    return ",".join(map(str, merged))


def _merges(text: str | None, patches: int, depth: int) -> tuple[ReducedAt, ...]:
    """The schedule of tome."""
    if text is None:
        return _merged([max(1, round(_MERGED * patches / _OF_PATCHES))] * depth, patches, cut=True)
    text = text.strip()
    constant = re.fullmatch(r"(\d{1,6})(?::([^:,]+))?", text, re.ASCII)
    if constant is not None:
        inflection = 0.0 if constant[2] is None else _number(constant[2])
        if inflection is not None and -1 <= inflection <= 1:
            merged = _inflected(int(constant[1]), inflection, depth)
            if max(merged) > patches // 2:
                raise InputError(
                    f"schedule '{text}' merges {max(merged)} of {patches} tokens at a block; one merge takes at most "
                    f"half of them, {patches // 2}"
                )
            return _merged(merged, patches, cut=True)
    if re.fullmatch(r"\s*\d{1,6}\s*(,\s*\d{1,6}\s*)+", text, re.ASCII) is None:
        raise InputError(
            f"schedule '{text}' for tome; give the tokens to merge at every block (13), at each one (13,13,8,...), or "
            "their mean and an inflection from -1 to 1 (13:-0.5)"
        )
    listed = [int(part) for part in text.split(",")]
    if len(listed) != depth:
        raise InputError(
            f"schedule '{text}' has {len(listed)} entries for {depth} blocks; give one a block, 0 for none"
        )
    schedule = _merged(listed, patches, cut=False)
    check_schedule("tome", schedule, patches, depth)
    return schedule


def _inflected(r: int, inflection: float, depth: int) -> list[int]:
    """Linear from int(r (1 - inflection)) to 2 r minus that, one entry a block."""
    first = int(r * (1 - inflection))
    step = (2 * r - 2 * first) / max(depth - 1, 1)
    return [int(first + step * block) for block in range(depth)]


def _merged(merged: list[int], patches: int, *, cut: bool) -> tuple[ReducedAt, ...]:
    """Tokens merged at each block to tokens left there."""
    schedule, n = [], patches
    for block, r in enumerate(merged):
        taken = min(r, n // 2) if cut else r
        if taken:
            n -= taken
            schedule.append(ReducedAt(block, n))
    return tuple(schedule)


def _shares(ratio: float, method: Method, patches: int, depth: int) -> tuple[ReducedAt, ...]:
    """A share kept at blocks 3, 6 and 9 of 12, and there in proportion for another depth, as each method rounds it."""
    schedule, n = [], patches
    for stage, block in enumerate(sorted({depth * quarter // 4 for quarter in (1, 2, 3)}), start=1):
        # Rounded first, because 0.29 of 100 is 28.999999999999996 to the machine.
        if method == "evit":
            after = math.ceil(round(ratio * n, 6)) + 1  # and the fused one
        else:
            after = max(1, int(round(patches * ratio**stage, 6)))
        if after < n:
            schedule.append(ReducedAt(block, after))
            n = after
    return tuple(schedule)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
