"""Pictures on disk: a folder of them, or a labelled set with a folder per class."""

from __future__ import annotations

import os
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import NoReturn

from edgevit.errors import InputError
from edgevit.files import reading

__all__ = ["IMAGE_EXTENSIONS", "ImageFolder", "list_images"]

IMAGE_EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_WANTED = f"wanted files ending in {', '.join(IMAGE_EXTENSIONS)}"


def list_images(folder: str | Path) -> list[Path]:
    """The image files in a folder and below it, sorted; hidden files and folders are ignored.

    Raises:
        InputError: there is no such folder, or no image in it.
    """
    root = Path(folder)
    with reading(root, _WANTED):
        images, others = _split(root, recurse=True)
    if not images:
        raise InputError(f"{root}: holds no image ({len(others)} other files); {_WANTED}")
    return images


@dataclass(frozen=True)
class ImageFolder:
    """A labelled set of images: one folder per class.

    Attributes:
        labels: names of the class folders, sorted; the index is the class.
        items: path and class of each image, sorted by class and then by name.
        ignored: the files that are not images by their extension, sorted; whoever opens the folder says how many.
    """

    labels: tuple[str, ...]
    items: tuple[tuple[Path, int], ...]
    ignored: tuple[Path, ...]

    @classmethod
    def open(cls, folder: str | Path) -> ImageFolder:
        """Read a folder per class. Hidden files and folders are ignored, nested folders inside a class are refused.

        Raises:
            InputError: there is no such folder, it has no class folder, or a class has no image.
        """
        with reading(Path(folder), "wanted one folder of images per class"):
            return cls._read(Path(folder))

    @classmethod
    def _read(cls, root: Path) -> ImageFolder:
        loose, others = _split(root, recurse=False)
        classes = sorted((p for p in root.iterdir() if p.is_dir() and not _hidden(p)), key=lambda p: p.name)
        if not classes:
            state = f"holds {len(loose)} images and" if loose else "has"
            raise InputError(f"{root}: {state} no class folder; wanted one folder of images per class")
        items: list[tuple[Path, int]] = []
        ignored = loose + others
        for index, directory in enumerate(classes):
            nested = sorted(p for p in directory.iterdir() if p.is_dir() and not _hidden(p))
            if nested:
                raise InputError(f"{nested[0]}: is a folder inside a class; wanted the images directly in {directory}")
            images, others = _split(directory, recurse=False)
            if not images:
                raise InputError(f"{directory}: this class has no image; {_WANTED}, or remove the folder")
            items += [(image, index) for image in images]
            ignored += others
        return cls(tuple(directory.name for directory in classes), tuple(items), tuple(sorted(ignored)))

    def __len__(self) -> int:
        return len(self.items)


def _split(folder: Path, *, recurse: bool) -> tuple[list[Path], list[Path]]:
    """Files by whether their extension is an image's, sorted by path below the folder; hidden ones left out."""
    images: list[Path] = []
    others: list[Path] = []
    for directory, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if recurse and not name.startswith(".")]
        for path in (Path(directory, name) for name in names if not name.startswith(".")):
            (images if path.suffix.lower() in IMAGE_EXTENSIONS else others).append(path)
    by_path = methodcaller("as_posix")
    return sorted(images, key=by_path), sorted(others, key=by_path)


def _raise(error: OSError) -> NoReturn:
    raise error


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")
