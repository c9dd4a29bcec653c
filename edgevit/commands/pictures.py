"""Pictures that commands write: whole or not at all, never over a file of the user's."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.files import atomic_write, cannot_write

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["names_beside", "write_png"]


def write_png(path: Path, picture: Image) -> None:
    """Write a picture as PNG, making the folder it goes to.

    Raises:
        InputError: it cannot be written.
    """
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    atomic_write(path, encoded.getvalue())


def names_beside(files: Sequence[Path], drawn: str, folder: Path) -> list[str]:
    """A name in `folder` for a drawing of each file: `7.depth.png` for `a/7.jpg`, and `7-2.depth.png` for a `b/7.png`.

    Args:
        files: the pictures, none of which a drawing replaces.
        drawn: what is drawn of them: `depth`.
        folder: where the drawings go.
    """
    place = folder.resolve()
    taken = {file.name for file in files if file.parent.resolve() == place}
    names: list[str] = []
    for file in files:
        number, name = 1, f"{file.stem}.{drawn}.png"
        while name in taken:
            number += 1
            name = f"{file.stem}-{number}.{drawn}.png"
        taken.add(name)
        names.append(name)
    return names
