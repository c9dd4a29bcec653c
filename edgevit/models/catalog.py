"""The models edgevit can open by name, and the door for those of others."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import nn

from edgevit.errors import InputError
from edgevit.models.checkpoint import load_checkpoint, load_weights
from edgevit.models.recursive import RecursiveConfig, RecursiveViT, dense_twin
from edgevit.preprocess import Preprocess

__all__ = ["CATALOG", "CatalogEntry", "ModelSource", "entry_named", "open_model", "source_of"]

_WEIGHTS = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True)
class CatalogEntry:
    """A model known by name.

    Attributes:
        name: what MODEL takes.
        description: one line for `edgevit list models`.
        config: its architecture.
        weights: the checkpoint that ships; None for a model that starts with random weights.
    """

    name: str
    description: str
    config: RecursiveConfig
    weights: Path | None

    @property
    def parameters(self) -> int:
        """Numbers it holds, each shared one counted once; none is allocated for the counting."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in RecursiveViT(self.config).parameters())


@dataclass(frozen=True)
class ModelSource:
    """A model ready to be exported, with what a bundle says of it.

    Attributes:
        name: MODEL as it was asked for.
        module: in eval mode, float32; B x 3 x H x W to logits B x C.
        labels: C names by class index.
        preprocess: from a picture to its input.
        checkpoint_sha256: of the file its weights came from; empty if they came from none.
    """

    name: str
    module: nn.Module
    labels: tuple[str, ...]
    preprocess: Preprocess
    checkpoint_sha256: str = ""

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


_STEEL = RecursiveConfig(
    image_size=128, patch_size=8, classes=7, width=128, heads=4, depth=3, recursions=4, per_step_norm=True,
    stem="conv", pool="cls+mean",
)  # fmt: skip
_DEIT_S = RecursiveConfig()

CATALOG: tuple[CatalogEntry, ...] = (
    CatalogEntry(
        "steel-recursive", "steel defects; 3 blocks x 4 steps at 1, 1/4, 1/8, 1/16 of the patches",
        _STEEL, _WEIGHTS / "steel-recursive.safetensors",
    ),
    CatalogEntry(
        "steel-adaptive", "steel defects; as many patches a step as the picture needs",
        _STEEL, _WEIGHTS / "steel-adaptive.safetensors",
    ),
    CatalogEntry(
        "steel-dense", "steel defects; the plain ViT of the same width and depth",
        dense_twin(_STEEL), _WEIGHTS / "steel-dense.safetensors",
    ),
    CatalogEntry(
        "steel-token-choice", "steel defects; each patch's depth chosen at entry; random weights, to be trained",
        replace(_STEEL, router="token_choice"), None,
    ),
    CatalogEntry("recursive-deit-s", "DeiT-S width, 3 blocks x 4 steps; random weights, for benchmarks", _DEIT_S, None),
    CatalogEntry("dense-deit-s", "DeiT-S, 12 blocks; random weights, for benchmarks", dense_twin(_DEIT_S), None),
)  # fmt: skip

# ImageNet's statistics, the convention for a model that brings none of its own.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def entry_named(name: str) -> CatalogEntry:
    """The catalog's entry of that name.

    Raises:
        InputError: there is none; the line names the nearest.
    """
    for entry in CATALOG:
        if entry.name == name:
            return entry
    names = [entry.name for entry in CATALOG]
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"wanted one of: {', '.join(names)}, or package.module:function"
    raise InputError(f"unknown model '{name}'; {hint}")


def open_model(
    name: str, *, checkpoint: Path | None = None, num_classes: int | None = None, input_size: int | None = None
) -> ModelSource:
    """Open a model by name.

    Args:
        name: a catalog entry, or `package.module:function` whose function takes nothing and returns an `nn.Module`.
        checkpoint: weights to use instead of the shipped ones; for a catalog entry one that edgevit wrote, which
            also brings config, labels and preprocessing; for a function any safetensors of its state dict.
        num_classes: how many classes the head has; checked against the weights.
        input_size: pixels a side, where the module does not say.

    Raises:
        InputError: the name is unknown, the function cannot be imported or returns something else, the checkpoint
            does not fit, or the numbers disagree with the weights.
    """
    if ":" in name:
        return _from_function(name, checkpoint, num_classes, input_size)
    entry = entry_named(name)
    path = checkpoint or entry.weights
    if path is not None:
        stored = load_checkpoint(path)
        config = stored.model.config
        # Thresholds are calibrated after training; whatever else differs is another model.
        if replace(config, thresholds=None, classes=entry.config.classes) != replace(entry.config, thresholds=None):
            raise InputError(
                f"{path}: a checkpoint of another architecture than {name}; give the model it was trained as"
            )
        source = ModelSource(name, stored.model, stored.labels, stored.preprocess, stored.sha256)
    else:
        config = replace(entry.config, classes=num_classes or entry.config.classes)
        module = _seeded(config)
        size = config.image_size
        preprocess = Preprocess(height=size, width=size, mean=_MEAN, std=_STD)
        source = ModelSource(name, module, _numbered(config.classes), preprocess)
    if num_classes is not None and num_classes != config.classes:
        raise InputError(
            f"--num-classes {num_classes}, but the weights of {name} have {config.classes}; leave it out or retrain"
        )
    if input_size is not None and input_size != config.image_size:
        raise InputError(
            f"--input-size {input_size}, but {name} was trained at {config.image_size}; leave it out or retrain"
        )
    return source


def _seeded(config: RecursiveConfig) -> RecursiveViT:
    """Random weights that are the same every time, without touching the caller's random state.

    Biases too: where they are zero an optimizer drops the additions, and the graph is not the one a trained model has.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = RecursiveViT(config).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter, std=0.02)
        return model


def _numbered(classes: int) -> tuple[str, ...]:
    return tuple(f"class {i}" for i in range(classes))


def _from_function(name: str, checkpoint: Path | None, num_classes: int | None, input_size: int | None) -> ModelSource:
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
    preprocess = Preprocess(height=size, width=size, mean=_MEAN, std=_STD)
    return ModelSource(name, module, _numbered(classes), preprocess)


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
