"""Draw the README's picture: generated surfaces, and how deep the shipped model went into each patch.

python examples/readme_picture.py d/topk docs/depth.png
"""

from __future__ import annotations

import sys

from PIL import Image

import edgevit
from edgevit.runtimes.overlay import draw_depth
from edgevit.samples import surface

KINDS = ("surface_scratch", "slag_inclusion", "red_iron", "finishing_roll_printing")
GAP = 12


def main() -> None:
    """One row: every overlay beside the next."""
    bundle, output = sys.argv[1:]
    tiles = []
    with edgevit.load(bundle) as session:
        for kind in KINDS:
            picture = surface(kind, seed=2)
            routing = session.predict(picture).routing
            assert routing is not None, "the bundle has no routing to draw; export one of steel-recursive"
            tiles.append(draw_depth(picture, routing))
    width = sum(tile.width for tile in tiles) + GAP * (len(tiles) - 1)
    row = Image.new("RGB", (width, max(tile.height for tile in tiles)), "white")
    left = 0
    for tile in tiles:
        row.paste(tile, (left, 0))
        left += tile.width + GAP
    row.save(output, optimize=True)


if __name__ == "__main__":
    main()
