from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.errors import InputError
from edgevit.image_folder import ImageFolder, list_images


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_classes_and_images_are_sorted_and_numbered(tmp_path: Path) -> None:
    folder = ImageFolder.open(make(tmp_path, "b/2.png", "b/10.JPG", "a/x.tiff"))
    assert folder.labels == ("a", "b")
    assert folder.items == ((tmp_path / "a/x.tiff", 0), (tmp_path / "b/10.JPG", 1), (tmp_path / "b/2.png", 1))
    assert len(folder) == 3
    assert folder.ignored == ()


def test_files_that_are_not_images_are_listed_and_hidden_ones_are_not(tmp_path: Path) -> None:
    folder = ImageFolder.open(
        make(tmp_path, "a/1.png", "a/notes.txt", "a/.DS_Store", "README", ".git/x.png", "a/.cache/y.png", "loose.png")
    )
    assert folder.labels == ("a",)
    assert folder.ignored == tuple(sorted([tmp_path / "README", tmp_path / "a/notes.txt", tmp_path / "loose.png"]))


@pytest.mark.parametrize(
    "names, message",
    [
        ((), "has no class folder; wanted one folder of images per class"),
        (("1.png", "2.png"), "holds 2 images and no class folder"),
        ((".hidden/1.png",), "has no class folder"),
        (("a/1.png", "b/notes.txt"), r"/b: this class has no image; wanted files ending in \.bmp"),
        (("a/1.png", "a/more/2.png"), r"/more: is a folder inside a class"),
    ],
)
def test_a_folder_that_is_no_labelled_set_is_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    make(tmp_path, *names)
    with pytest.raises(InputError, match=message) as caught:
        ImageFolder.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_images_are_found_in_folders_below_and_sorted_by_path(tmp_path: Path) -> None:
    make(tmp_path, "b.png", "a/z.bmp", "a/y.webp", ".hidden/x.png", "a/.x.png", "notes.txt")
    assert list_images(tmp_path) == [tmp_path / "a/y.webp", tmp_path / "a/z.bmp", tmp_path / "b.png"]


def test_a_hidden_folder_that_is_asked_for_by_name_is_read(tmp_path: Path) -> None:
    assert list_images(make(tmp_path / ".data", "a.png")) == [tmp_path / ".data/a.png"]


@pytest.mark.parametrize("opener", [list_images, ImageFolder.open])
def test_what_is_not_a_folder_is_called_so(tmp_path: Path, opener: type) -> None:
    make(tmp_path, "a.png")
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\)"):
        opener(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"cannot be read \(Not a directory\)"):
        opener(tmp_path / "a.png")


def test_a_folder_without_images_says_what_it_holds_instead(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no image \(2 other files\)"):
        list_images(make(tmp_path, "a.txt", "b/c.gif"))
