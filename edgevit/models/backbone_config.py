"""What a stock backbone is: its name in timm, its classes and its image size. Knows neither torch nor timm."""

from __future__ import annotations

from dataclasses import dataclass

from edgevit.errors import InputError

__all__ = ["TimmConfig"]


@dataclass(frozen=True, kw_only=True)
class TimmConfig:
    """A classifier of timm's.

    Attributes:
        name: timm's name of it; a tag after a dot says whose preprocessing is meant.
        classes: C.
        image_size: H = W in pixels.
    """

    name: str
    classes: int
    image_size: int

    def __post_init__(self) -> None:
        if not self.name or self.name != self.name.strip() or "/" in self.name:
            raise InputError(f"'{self.name}' is no name of timm's; give one such as deit_small_patch16_224")
        for field in ("classes", "image_size"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} is {getattr(self, field)}; give 1 or more")
