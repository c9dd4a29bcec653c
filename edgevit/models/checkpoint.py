"""Checkpoints: weights as safetensors, with everything needed to rebuild and feed the model in the file's metadata.

A file holds the model's config, its labels and its preprocessing, so that it is usable alone. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from edgevit import strict_json
from edgevit.errors import InputError
from edgevit.files import atomic_write
from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.preprocess import Preprocess

__all__ = ["Checkpoint", "load_checkpoint", "load_weights", "save_checkpoint"]

_FORMAT = "edgevit.checkpoint/1"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model with what it needs to be fed and read.

    Attributes:
        model: in eval mode, float32 whatever the file stores.
        labels: C names, by class index.
        preprocess: from a picture to the model's input.
        sha256: of the file it came from, hexadecimal; empty for one that was never written.
    """

    model: RecursiveViT
    labels: tuple[str, ...]
    preprocess: Preprocess
    sha256: str = ""


def save_checkpoint(path: Path, checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: the `.safetensors` file.
        checkpoint: what to write.
        dtype: how floating-point weights are stored; float16 halves the file and is read back as float32.

    Raises:
        InputError: a weight does not fit `dtype`, or the file cannot be written.
    """
    stored: dict[str, torch.Tensor] = {}
    for name, value in checkpoint.model.state_dict().items():
        stored[name] = value.detach().cpu().to(dtype if value.is_floating_point() else value.dtype).contiguous()
        if not torch.isfinite(stored[name].float()).all():
            raise InputError(f"{name} is not finite as {dtype}; store it as float32 or retrain")
    metadata = {
        "format": _FORMAT,
        "config": strict_json.encode(checkpoint.model.config).decode(),
        "labels": strict_json.encode(checkpoint.labels).decode(),
        "preprocess": strict_json.encode(checkpoint.preprocess).decode(),
    }
    atomic_write(path, save_tensors(stored, metadata))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint that `save_checkpoint` wrote.

    Raises:
        InputError: there is no such file; it is truncated, a pickle or otherwise no safetensors; it is no edgevit
            checkpoint; its weights and its config disagree (all missing and extra names are listed).
    """
    data, tensors = _read(path)
    metadata = _metadata(data)
    if metadata.get("format") != _FORMAT:
        raise InputError(
            f"{path}: no edgevit checkpoint (format '{metadata.get('format', 'none')}', wanted '{_FORMAT}'); "
            "plain weights go with a model name: --checkpoint FILE"
        )
    where = str(path)
    model = RecursiveViT(strict_json.decode(RecursiveConfig, metadata.get("config", "").encode(), f"{where}: config"))
    labels = strict_json.decode(tuple[str, ...], metadata.get("labels", "").encode(), f"{where}: labels")
    if len(labels) != model.config.classes:
        raise InputError(f"{where}: {len(labels)} labels for {model.config.classes} classes; the file is damaged")
    preprocess = strict_json.decode(Preprocess, metadata.get("preprocess", "").encode(), f"{where}: preprocess")
    _fill(model, tensors, where)
    return Checkpoint(model.eval(), labels, preprocess, hashlib.sha256(data).hexdigest())


def load_weights(model: torch.nn.Module, path: Path) -> str:
    """Fill a module strictly from a safetensors file, whoever wrote it; gives the file's SHA-256.

    Raises:
        InputError: as `load_checkpoint`.
    """
    data, tensors = _read(path)
    _fill(model, tensors, str(path))
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> tuple[bytes, dict[str, torch.Tensor]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); wanted a .safetensors file") from error
    if data[:2] == b"\x80\x02" or data[:2] == b"PK":
        raise InputError(
            f"{path}: a pickle, which can run code when opened; wanted .safetensors: "
            "load it where you trust it and save its state_dict with safetensors.torch.save_file"
        )
    try:
        return data, load_tensors(data)
    except SafetensorError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: truncated, damaged or no safetensors file ({reason}); get a whole copy of it") from error


def _metadata(data: bytes) -> dict[str, str]:
    """The free-form metadata of safetensors bytes: a JSON header after its length in 8 bytes (safetensors README)."""
    header = strict_json.decode(dict[str, object], data[8 : 8 + int.from_bytes(data[:8], "little")], "safetensors header")
    metadata = header.get("__metadata__", {})
    return {str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}


def _fill(model: torch.nn.Module, tensors: dict[str, torch.Tensor], where: str) -> None:
    wanted = model.state_dict()
    missing = sorted(set(wanted) - set(tensors))
    extra = sorted(set(tensors) - set(wanted))
    if missing or extra:
        raise InputError(
            f"{where}: weights of another model; missing: {', '.join(missing) or 'none'}; extra: {', '.join(extra) or 'none'}"
        )
    for name, value in tensors.items():
        if value.shape != wanted[name].shape:
            raise InputError(
                f"{where}: {name} has shape {tuple(value.shape)}, the model wants {tuple(wanted[name].shape)}; "
                "give the checkpoint of this model, or the model of this checkpoint"
            )
    model.load_state_dict(tensors)
