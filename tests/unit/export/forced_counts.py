"""A model that sees nothing but red and green, and pictures that so force how many tokens each step takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.models.source import ModelSource
from edgevit.preprocess import Preprocess

SIZE, PATCH, N = 32, 8, 16
EXPERT = RecursiveConfig(
    image_size=SIZE, patch_size=PATCH, classes=3, width=32, heads=2, depth=2, recursions=3, capacities=(1.0, 0.5, 0.25),
    thresholds=(2.0, 2.0), pool="cls+mean", per_step_norm=True,
)  # fmt: skip
TOKEN = replace(EXPERT, router="token_choice", thresholds=None)
RUNGS = (0, 1, 3, 8, N)


def forced(config: RecursiveConfig) -> RecursiveViT:
    """A model whose routers see nothing but red and green: a red patch takes the second step, a green one the third."""
    torch.manual_seed(0)
    model = RecursiveViT(config).eval().requires_grad_(False)
    for block in model.blocks:
        for parameter in block.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.06)
    nn.init.normal_(model.head.weight)
    stem = model.stem.weight
    nn.init.normal_(stem, std=0.03)
    for colour in (0, 1):
        stem[colour] = 0
        stem[colour, colour] = 4 / PATCH**2
        nn.init.zeros_(model.position)
    for router in model.routers:
        nn.init.zeros_(router.weight)
    if config.router == "expert_choice":
        for step, router in enumerate(model.routers):
            router.weight[0, step] = 1.0
    else:  # two steps for red, three for red and green
        weight, bias = model.routers[0].weight, model.routers[0].bias
        weight[1, 0], bias[1] = 1.0, -2.0
        weight[2, 0], weight[2, 1], bias[2] = 1.0, 1.0, -4.0
    return model


def pictures(counts: list[tuple[int, int]], seed: int = 0) -> np.ndarray:
    """One picture for each pair: so many patches red, and so many of those green too; noise elsewhere."""
    draws = np.random.default_rng(seed)
    images = draws.normal(0, 0.3, (len(counts), 3, SIZE, SIZE)).astype(np.float32)
    for image, (second, third) in zip(images, counts, strict=True):
        places = draws.permutation(N)
        for colour, chosen in ((0, places[:second]), (1, places[:third])):
            for place in chosen:
                row, column = divmod(int(place), SIZE // PATCH)
                image[colour, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] += 1.0
    return images


def some_counts(n: int, seed: int) -> list[tuple[int, int]]:
    """Nested counts from 0 to N, the extremes among them."""
    draws = np.random.default_rng(seed)
    seconds = draws.integers(0, N + 1, n - 3)
    return [(0, 0), (N, 0), (N, N), *((int(k), int(draws.integers(0, k + 1))) for k in seconds)]


def source_of(model: nn.Module) -> ModelSource:
    preprocess = Preprocess(height=SIZE, width=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return ModelSource("forced", model, ("a", "b", "c"), preprocess)


def saved(folder: Path, counts: list[tuple[int, int]]) -> Path:
    folder.mkdir()
    for i, image in enumerate(pictures(counts)):
        pixels = (np.clip(image * 0.25 + 0.5, 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
    return folder
