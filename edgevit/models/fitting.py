"""Whether weights are a model's own, and filling it with them: strictly, by name, shape and kind of number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.files import sha256
from edgevit.models.tensor_file import read_tensor_file, unpack

__all__ = ["check_weights", "load_weights"]


def load_weights(model: nn.Module, path: Path) -> str:
    """Fill a module strictly from a safetensors file, whoever wrote it; gives the file's SHA-256.

    Raises:
        InputError: no safetensors file, a damaged one, or weights of another model.
    """
    data = read_tensor_file(path)
    tensors, _ = unpack(data, str(path))
    check_weights(model, tensors, str(path))
    model.load_state_dict(tensors)
    return sha256(data)


def check_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that are not exactly the model's, by name, shape and kind of number.

    Args:
        model: what is to be filled.
        tensors: by the names of its state dict; a floating-point weight may have any precision.
        where: what the weights are, for errors: the file's path.

    Raises:
        InputError: they are not; all missing and extra names are listed.
    """
    wanted = model.state_dict()
    missing = ", ".join(sorted(set(wanted) - set(tensors)))
    extra = ", ".join(sorted(set(tensors) - set(wanted)))
    advice = "give the checkpoint of this model, or the model of this checkpoint"
    if missing or extra:
        raise InputError(
            f"{where}: weights of another model; missing: {missing or 'none'}; extra: {extra or 'none'}; {advice}"
        )
    for name, ours in wanted.items():  # in the model's order: a file's differs from load to load
        theirs = tensors[name]
        if theirs.shape != ours.shape:
            raise InputError(
                f"{where}: {name} has shape {tuple(theirs.shape)}, the model wants {tuple(ours.shape)}; {advice}"
            )
        if theirs.is_floating_point() != ours.is_floating_point():
            raise InputError(f"{where}: {name} is {theirs.dtype}, the model wants {ours.dtype}; {advice}")
