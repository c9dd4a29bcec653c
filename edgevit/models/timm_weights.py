"""Users' weights of a plain timm model, read into that model wherever it stands: alone, or inside a reduced one."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.files import reading, sha256
from edgevit.models.backbone import TimmClassifier, published_layout
from edgevit.models.fitting import check_weights
from edgevit.models.tensor_file import unpack
from edgevit.models.timm_vit import TimmViT

__all__ = ["TimmWeights", "load_timm_weights"]

# Where training scripts put the weights among the rest of what they save; averaged ones are the better ones.
_PLACES = ("state_dict_ema", "model_ema", "state_dict", "model")


class TimmWeights(NamedTuple):
    """What was loaded.

    Attributes:
        sha256: of the file, hexadecimal.
        fresh: names in the module's state dict that the file knows nothing of, a reducer's own: they stay as they were.
    """

    sha256: str
    fresh: tuple[str, ...]


def load_timm_weights(module: nn.Module, path: Path) -> TimmWeights:
    """Fill the timm model inside a module from a file of weights of the plain model, strictly.

    Args:
        module: a `TimmClassifier`, or a reduced model with one inside as `backbone`.
        path: .safetensors, or what `torch.save` wrote (.pth, .pt, .bin, .tar), of which nothing but tensors is read.

    Raises:
        InputError: the file cannot be read or is damaged; it holds no weights, or those of another model or of
            another number of classes.
    """
    model = _timm_model(module)
    with reading(path, "wanted a .safetensors or .pth file"):
        data = path.read_bytes()
    tensors = unpack(data, str(path))[0] if path.suffix == ".safetensors" else _unpickled(data, path)
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    wanted = model.state_dict()
    if {name: tensor.shape for name, tensor in tensors.items()} != {name: ours.shape for name, ours in wanted.items()}:
        tensors = _adapted(model, tensors)
        _check_head(model, tensors, path)
    check_weights(model, tensors, str(path))
    model.load_state_dict(dict(tensors))
    theirs = {id(value) for value in model.state_dict(keep_vars=True).values()}
    fresh = [name for name, value in module.state_dict(keep_vars=True).items() if id(value) not in theirs]
    return TimmWeights(sha256(data), tuple(fresh))


def _timm_model(module: Any) -> nn.Module:
    inner = module if isinstance(module, TimmClassifier) else getattr(module, "backbone", None)
    if isinstance(inner, (TimmClassifier, TimmViT)):
        inner = inner.model
    if not isinstance(inner, nn.Module) or not hasattr(inner, "pretrained_cfg"):
        raise InputError(f"a {type(module).__name__} has no timm model inside; give such weights to timm/NAME")
    return inner


def _unpickled(data: bytes, path: Path) -> Mapping[str, Tensor]:
    try:
        stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # on damaged bytes the reader raises nearly anything
        raise InputError(
            f"{path}: damaged, or holds more than tensors, which could run code; save the model's state_dict() alone"
        ) from error
    for place in _PLACES:
        if isinstance(stored, dict) and isinstance(stored.get(place), dict):
            stored = stored[place]
            break
    if not isinstance(stored, dict) or not stored or not all(isinstance(value, Tensor) for value in stored.values()):
        raise InputError(f"{path}: holds no state dict of tensors; save the model's state_dict()")
    return stored


def _check_head(model: Any, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Say by its name the commonest misfit: a head of another number of classes."""
    heads = model.get_classifier()
    heads = heads if isinstance(heads, tuple) else (heads,)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for head in heads:
        for linear in (part for part in head.modules() if isinstance(part, nn.Linear)):
            theirs = tensors.get(names[id(linear.weight)])
            if theirs is not None and theirs.ndim == 2 and theirs.shape[0] != linear.out_features:
                raise InputError(
                    f"{path}: weights for {theirs.shape[0]} classes, the model has {linear.out_features}; "
                    f"give --num-classes {theirs.shape[0]}"
                )


def _adapted(model: nn.Module, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    try:
        return published_layout(model, tensors)
    except (KeyError, RuntimeError, ValueError, AttributeError, AssertionError, IndexError):
        return tensors  # of another model: what is missing and what is too many is said next
