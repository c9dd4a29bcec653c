"""Augmentation fit for surfaces: a defect stays one when mirrored, shifted, lit otherwise or photographed with noise.

No crops that could cut the defect off, no colour games: the alloy's hue can be the class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edgevit.errors import InputError

__all__ = ["Augmentation"]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of a normalised batch, each drawn for each image.

    Attributes:
        flip: whether to mirror, left-right and top-bottom, half of the time each.
        shift_share: largest shift, as a share of the side, below 1; the border is mirrored.
        brightness: standard deviation of an added constant, in units of the normalised image.
        contrast: standard deviation of the logarithm of a factor about the image's mean.
        noise: largest standard deviation of white noise added.
    """

    flip: bool = True
    shift_share: float = 0.1
    brightness: float = 0.2
    contrast: float = 0.15
    noise: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.shift_share < 1:
            raise InputError(f"shift_share is {self.shift_share}; give 0 or more and below 1, such as 0.1")
        for name in ("brightness", "contrast", "noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """B x 3 x H x W to the same; every draw comes from `generator` (on the CPU)."""
        images = torch.stack([self._move(image, generator) for image in images])

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(images.device)

        batch = len(images)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        gain = torch.exp(self.contrast * draw(batch, 1, 1, 1))
        level = self.noise * torch.rand(batch, 1, 1, 1, generator=generator).to(images.device)
        return mean + gain * (images - mean) + self.brightness * draw(batch, 1, 1, 1) + level * draw(*images.shape)

    def _move(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Mirror and shift one image, 3 x H x W."""
        mirror_rows, mirror_columns = torch.randint(0, 2, (2,), generator=generator).tolist()
        if self.flip:
            image = image.flip([axis for axis, on in ((1, mirror_rows), (2, mirror_columns)) if on])
        height, width = image.shape[1:]
        reach_y, reach_x = int(self.shift_share * height), int(self.shift_share * width)
        top = int(torch.randint(0, 2 * reach_y + 1, (1,), generator=generator))
        left = int(torch.randint(0, 2 * reach_x + 1, (1,), generator=generator))
        padded = functional.pad(image[None], (reach_x, reach_x, reach_y, reach_y), mode="reflect")[0]
        return padded[:, top : top + height, left : left + width]
