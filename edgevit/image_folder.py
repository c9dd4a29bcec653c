"""Pictures on disk: a folder of them, or a labelled set with a folder per class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevit.errors import InputError

__all__ = ["IMAGE_EXTENSIONS", "ImageFolder", "list_images"]

IMAGE_EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_WANTED = f"wanted files ending in {', '.join(IMAGE_EXTENSIONS)}"


def list_images(folder: str | Path) -> list[Path]:
    """The image files in a folder and below it, sorted; hidden files and folders are ignored.

    Raises:
        InputError: there is no such folder, or no image in it.
    """
    root = _existing(folder)
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
        root = _existing(folder)
        loose, others = _split(root, recurse=False)
        classes = sorted((p for p in root.iterdir() if p.is_dir() and not _hidden(p)), key=lambda p: p.name)
        if not classes:
            state = f"holds {len(loose)} images and" if loose else "has"
            raise InputError(f"{root}: {state} no class folder; wanted one folder of images per class")
        items: list[tuple[Path, int]] = []
        ignored = loose + others
        for index, directory in enumerate(classes):
            nested = next((p for p in sorted(directory.iterdir()) if p.is_dir() and not _hidden(p)), None)
            if nested:
                raise InputError(
                    f"{nested}: is a folder inside the class '{directory.name}'; wanted images directly in {directory}"
                )
            images, others = _split(directory, recurse=False)
            if not images:
                raise InputError(
                    f"{directory}: the class '{directory.name}' has no image; {_WANTED}, or remove the folder"
                )
            items += [(image, index) for image in images]
            ignored += others
        return cls(tuple(directory.name for directory in classes), tuple(items), tuple(sorted(ignored)))

    def __len__(self) -> int:
        return len(self.items)


def _existing(folder: str | Path) -> Path:
    root = Path(folder)
    if not root.is_dir():
        raise InputError(
            f"{root}: {'is not a folder' if root.exists() else 'no such folder'}; wanted a folder of images"
        )
    return root


def _split(folder: Path, *, recurse: bool) -> tuple[list[Path], list[Path]]:
    """Files by whether their extension is an image's, sorted by path below the folder; hidden ones left out."""
    found = [p for p in (folder.rglob("*") if recurse else folder.iterdir()) if p.is_file()]
    found = [p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    found.sort(key=lambda p: p.relative_to(folder).as_posix())
    images = [p for p in found if p.suffix.lower() in IMAGE_EXTENSIONS]
    return images, [p for p in found if p.suffix.lower() not in IMAGE_EXTENSIONS]


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")
