"""Which layer of its model a weight belongs to, told by its name: what layer-wise rates and a frozen stem go by.

Every model here keeps its blocks in numbered containers (`blocks.3`, `layers.1.blocks.0`, `stages.2.1`) in the order in
which they are computed; what is named before the first block feeds it, and what follows the last one reads from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from edgevit.errors import InputError

__all__ = ["layers_of", "stem_of"]

# A reduced model holds the plain one as `backbone`, a wrapped one as `model`.
_WRAPPING = re.compile(r"(?:backbone\.)?(?:model\.)?")
_BLOCK = re.compile(r"((?:blocks|layers|stages)\.\d+(?:\.blocks)?(?:\.\d+)?|first|last)\.")
_NO_LAYER = re.compile(r"(?:reducers|routers|merge)\.")


def layers_of(names: Iterable[str]) -> dict[str, int | None]:
    """The layer of each weight: 0 for the stem and the embeddings, 1 for the first block, the highest for the head.

    Args:
        names: of a model's state dict or of its parameters, in its order.

    Returns:
        By name, in the same order; None for reducers, an early merge and routers, which stand beside the layers.

    Raises:
        InputError: nothing is named as a block is.
    """
    listed = list(names)
    keys = {name: _block_of(name) for name in listed}
    blocks = list(dict.fromkeys(key for key in keys.values() if key is not None))
    if not blocks:
        raise InputError("the model names no blocks to tell layers by; leave layer decay and the frozen stem out")
    blocks.sort(key=lambda key: key != "first")  # `middle_cycle` names its first block after the shared ones
    number = {key: i for i, key in enumerate(blocks, start=1)}
    layers: dict[str, int | None] = {}
    passed = False
    for name in listed:
        key = keys[name]
        passed = passed or key is not None
        if key is not None:
            layers[name] = number[key]
        elif _NO_LAYER.match(name):
            layers[name] = None
        else:
            layers[name] = len(blocks) + 1 if passed else 0
    return layers


def stem_of(names: Iterable[str]) -> tuple[str, ...]:
    """The weights before the first block: patch embedding, positions, class token.

    Raises:
        InputError: as `layers_of`.
    """
    return tuple(name for name, layer in layers_of(names).items() if layer == 0)


def _block_of(name: str) -> str | None:
    wrapping = _WRAPPING.match(name)
    assert wrapping is not None  # it matches the empty text
    block = _BLOCK.match(name, wrapping.end())
    return block[1] if block else None
