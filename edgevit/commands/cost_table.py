"""What a graph costs, block by block, and what its reduction or routing saves: as `edgevit info` shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgevit import console
from edgevit.strict_json import build

if TYPE_CHECKING:
    from edgevit.spec import BlockCost

__all__ = ["blocks_of", "saving", "show_blocks"]


_NOTHING = 5e-4  # of the FLOPs: what no table would show


def blocks_of(cost: Mapping[str, object]) -> tuple[BlockCost, ...]:
    """The blocks in a manifest's cost; none in one that an earlier edgevit wrote.

    Raises:
        InputError: they are not what edgevit writes.
    """
    from edgevit.spec import BlockCost

    return build(tuple[BlockCost, ...], cost.get("blocks", []), "manifest.json: cost.blocks")


def saving(blocks: Sequence[BlockCost], batch: int) -> dict[str, Any] | None:
    """What merging, dropping or routing tokens saved; None where every token is in every block.

    Args:
        blocks: of the graph.
        batch: images of one run.

    Returns:
        FLOPs of an image: `flops`, `full_flops`, and `share`, the part of the latter that is not spent.
    """
    flops, full = sum(block.flops for block in blocks) / batch, sum(block.full_flops for block in blocks) / batch
    if not full or 1 - flops / full < _NOTHING:  # an adaptive graph's worst case, which counts every token
        return None
    return {"flops": flops, "full_flops": full, "share": 1 - flops / full}


def show_blocks(blocks: Sequence[BlockCost], batch: int) -> None:
    """Print a line for each block, for one image, and what was saved."""
    saved = saving(blocks, batch)
    columns = ["block", ">tokens", ">GFLOPs", *[">at full tokens"] * bool(saved), ">weights", ">activations"]
    rows = []
    for block in blocks:
        flops = [_giga(block.flops / batch), *[_giga(block.full_flops / batch)] * bool(saved)]
        moved = [console.size(block.weight_bytes), console.size(block.activation_bytes / batch)]
        rows.append([block.name, "" if block.tokens is None else str(block.tokens), *flops, *moved])
    console.show_line("")
    console.show_table(columns, rows)
    if saved:
        console.show_line("")
        console.show_line(
            console.good(f"saves {console.percent(saved['share'])}"),
            f"of the FLOPs: {_giga(saved['flops'])} instead of {_giga(saved['full_flops'])} GFLOPs an image,",
            console.faint("each product of the graph counted again with every token still there"),
        )


def _giga(flops: float) -> str:
    return "<0.001" if 0 < flops < 5e5 else f"{flops / 1e9:.3f}"
