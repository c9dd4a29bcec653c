"""Reads of /sys and /proc that may fail at any time: a file may be absent, forbidden, or have no value just now."""

from __future__ import annotations

from pathlib import Path


def text(path: Path) -> str | None:
    """Content without surrounding space and zero bytes; None if it cannot be had or is empty."""
    try:
        return path.read_bytes().decode(errors="replace").strip("\0\n\t ") or None
    except OSError:
        return None


def number(path: Path) -> float | None:
    """Content as a number, decimal or 0x; None if it cannot be had or is none."""
    content = text(path)
    if content is None:
        return None
    try:
        return float(int(content, 16)) if content.startswith("0x") else float(content)
    except ValueError:
        return None


def numbered(folder: Path, pattern: str) -> list[Path]:
    """Paths in a folder by pattern, in the order of the numbers in their names: cpu2 before cpu10."""
    return sorted(folder.glob(pattern), key=lambda path: (len(path.name), path.name))
