"""A model ready to be exported, wherever it came from, and the door for modules that are not edgevit's."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from edgevit.errors import InputError
from edgevit.models.fitting import load_weights
from edgevit.models.recursive import RecursiveViT
from edgevit.preprocess import Preprocess

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "ModelSource", "from_function", "numbered", "source_of"]

# The convention for a model that brings none of its own.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelSource:
    """A model ready to be exported, with what a bundle says of it.

    Attributes:
        name: MODEL as it was asked for.
        module: in eval mode, float32; B x 3 x H x W to logits B x C.
        labels: C names by class index.
        preprocess: from a picture to its input.
        checkpoint_sha256: of the file its weights came from; empty if they came from none.
        fresh: names of weights that were in no file and are random, where others came from one.
    """

    name: str
    module: nn.Module
    labels: tuple[str, ...]
    preprocess: Preprocess
    checkpoint_sha256: str = ""
    fresh: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.labels or not all(self.labels) or len(set(self.labels)) != len(self.labels):
            raise InputError(
                f"{self.name}: labels are {', '.join(self.labels) or 'none'}; give each class one of its own"
            )
        if isinstance(self.module, RecursiveViT):
            side, shape = self.module.config.image_size, (self.preprocess.height, self.preprocess.width)
            if shape != (side, side):
                raise InputError(
                    f"{self.name}: preprocessing gives {shape[0]} x {shape[1]}, the model takes {side} x {side}"
                )
            if len(self.labels) != self.module.config.classes:
                raise InputError(f"{self.name}: {len(self.labels)} labels for {self.module.config.classes} classes")


def numbered(classes: int) -> tuple[str, ...]:
    """Labels for classes whose names nobody told."""
    return tuple(f"class {i}" for i in range(classes))


def from_function(
    name: str, checkpoint: Path | None = None, num_classes: int | None = None, input_size: int | None = None
) -> ModelSource:
    """What `package.module:function` gives, a function without arguments that returns an `nn.Module`.

    Raises:
        InputError: it cannot be imported, raises or returns something else; otherwise as `source_of`.
    """
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{name}: cannot be imported ({error}); wanted package.module:function on the Python path"
        ) from error
    try:
        module = function() if callable(function) else None
    except Exception as error:  # somebody else's code may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: raised when called without arguments ({reason}); mend the function") from error
    if not isinstance(module, nn.Module):
        raise InputError(
            f"{name}: gave {type(module).__name__}, wanted a function without arguments that returns an nn.Module"
        )
    sha256 = load_weights(module, checkpoint) if checkpoint else ""
    return replace(source_of(name, module, num_classes, input_size), checkpoint_sha256=sha256)


def source_of(
    name: str, module: nn.Module, num_classes: int | None = None, input_size: int | None = None
) -> ModelSource:
    """What there is to say of somebody's own module: numbered labels, ImageNet's normalisation.

    Args:
        name: what to call it.
        module: maps B x 3 x H x W float32 to logits B x C; put into eval mode.
        num_classes: C, checked against what it answers.
        input_size: H = W in pixels; a `RecursiveViT` knows its own.

    Raises:
        InputError: its size is not known, it fails on an image of that size, or it answers with other logits.
    """
    module.eval()
    if isinstance(module, RecursiveViT):
        size = module.config.image_size
        if input_size not in (None, size):
            raise InputError(f"--input-size {input_size}, but {name} takes {size}; leave it out")
    elif input_size is None:
        raise InputError(f"{name}: does not say its image size; give --input-size N")
    else:
        size = input_size
    classes = _classes(name, module, size)
    if num_classes not in (None, classes):
        raise InputError(f"--num-classes {num_classes}, but {name} answers with {classes} logits; leave it out")
    preprocess = Preprocess(height=size, width=size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return ModelSource(name, module, numbered(classes), preprocess)


def _classes(name: str, module: nn.Module, size: int) -> int:
    """How many logits the module gives for one black picture."""
    with torch.inference_mode():
        try:
            logits = module(torch.zeros(1, 3, size, size))
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{name}: fails on an image of {size} x {size} ({reason}); give its own --input-size"
            ) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise InputError(f"{name}: its forward must give logits of shape B x C; wrap it in a module that does")
    return int(logits.shape[1])
