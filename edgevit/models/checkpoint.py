"""Checkpoints: weights as safetensors, with everything needed to rebuild and feed the model in the file's metadata.

A file holds the model's config, its labels and its preprocessing, so that it is usable alone. Nothing is unpickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edgevit import strict_json
from edgevit.errors import InputError
from edgevit.files import atomic_write, sha256
from edgevit.models.architecture import Architecture, build, config_of, plain_of
from edgevit.models.fitting import check_weights
from edgevit.models.recursive import RecursiveConfig
from edgevit.models.tensor_file import metadata_of, pack, read_tensor_file, unpack
from edgevit.preprocess import Preprocess

__all__ = ["Checkpoint", "holds_checkpoint", "load_checkpoint", "save_checkpoint"]

_FORMAT = "edgevit.checkpoint/1"
_METADATA = {"format", "config", "labels", "preprocess"}


@dataclass(frozen=True)
class Checkpoint:
    """A trained model with what it needs to be fed and read.

    Attributes:
        model: of an architecture of edgevit's; float32 whatever the file stores; in eval mode if it was loaded.
        labels: C different names, by class index.
        preprocess: from a picture to the model's input.
        sha256: of the file it came from, hexadecimal; empty for one that was never written.

    Raises:
        InputError: labels or preprocessing do not fit the model.
    """

    model: nn.Module
    labels: tuple[str, ...]
    preprocess: Preprocess
    sha256: str = ""

    def __post_init__(self) -> None:
        config, size = config_of(self.model), (self.preprocess.height, self.preprocess.width)
        if len(self.labels) != config.classes:
            raise InputError(f"{len(self.labels)} labels for {config.classes} classes; give one a class")
        if len(set(self.labels)) != len(self.labels):
            raise InputError(f"the labels {', '.join(self.labels)} are not all different; give each class its own")
        if size != (config.image_size, config.image_size):
            raise InputError(
                f"preprocessing to {size[0]} x {size[1]} for a model of {config.image_size} x {config.image_size}; "
                "give both one size"
            )


def save_checkpoint(path: Path, checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: the `.safetensors` file; its folder must exist.
        checkpoint: what to write.
        dtype: how floating-point weights are stored; float16 halves the file and is read back as float32.

    Raises:
        InputError: a weight is not finite or does not fit `dtype`, or the file cannot be written.
    """
    stored: dict[str, Tensor] = {}
    for name, value in checkpoint.model.state_dict().items():
        stored[name] = value.to(dtype) if value.is_floating_point() else value
        if not torch.isfinite(value).all():
            raise InputError(f"{name} is not finite: the training diverged; train again with a lower learning rate")
        if not torch.isfinite(stored[name]).all():
            raise InputError(f"{name} has values too large for {dtype}; store it as torch.float32")
    metadata = {
        "format": _FORMAT,
        "config": strict_json.encode(config_of(checkpoint.model)).decode(),
        "labels": strict_json.encode(checkpoint.labels).decode(),
        "preprocess": strict_json.encode(checkpoint.preprocess).decode(),
    }
    atomic_write(path, pack(stored, metadata))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint that `save_checkpoint` wrote.

    Raises:
        InputError: there is no such file; it is truncated, damaged, a pickle or otherwise no safetensors; it is no
            edgevit checkpoint; its weights and its config disagree (all missing and extra names are listed).
    """
    data = read_tensor_file(path)
    tensors, metadata = unpack(data, str(path))
    if metadata.get("format") != _FORMAT:
        raise InputError(
            f"{path}: no edgevit checkpoint (format '{metadata.get('format', 'none')}', wanted '{_FORMAT}'); "
            "give one that edgevit train wrote; weights alone are taken for timm's models and package.module:function"
        )
    if set(metadata) != _METADATA:
        raise InputError(
            f"{path}: metadata are {', '.join(sorted(metadata))}; wanted {', '.join(sorted(_METADATA))}; "
            "get a whole copy of it"
        )
    config = _config(metadata["config"], f"{path}: config")
    labels = strict_json.decode(tuple[str, ...], metadata["labels"].encode(), f"{path}: labels")
    preprocess = strict_json.decode(Preprocess, metadata["preprocess"].encode(), f"{path}: preprocess")
    if isinstance(plain_of(config), RecursiveConfig):
        # Without memory until the weights are known to fit: a config of absurd numbers must not take the machine down.
        # It also skips the initialisation, and leaves the caller's random state alone.
        with torch.device("meta"):
            model = build(config)
        check_weights(model, tensors, str(path))
        model.to_empty(device="cpu").load_state_dict(tensors)
    else:
        # Those of timm compute buffers from their config that no file stores, and so need the memory.
        with torch.random.fork_rng(devices=[]):
            model = build(config)
        check_weights(model, tensors, str(path))
        model.load_state_dict(tensors)
    try:
        return Checkpoint(model.eval(), labels, preprocess, sha256(data))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def holds_checkpoint(path: Path) -> bool:
    """Whether a file says that it is a checkpoint of edgevit's, rather than plain weights.

    Raises:
        InputError: it cannot be read.
    """
    return path.suffix == ".safetensors" and metadata_of(read_tensor_file(path), str(path)).get("format") == _FORMAT


def _config(text: str, where: str) -> Architecture:
    record = strict_json.parse(text.encode(), where)
    if isinstance(record, dict) and "recursions" in record:
        record.setdefault("early_merge", None)  # files written before there was one
    config: Architecture = strict_json.build(Architecture, record, where)  # type: ignore[arg-type]
    return config
