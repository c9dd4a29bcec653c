"""What a run keeps on disk after every epoch: all that the next epoch depends on, and whose run it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgevit import strict_json
from edgevit.errors import InputError
from edgevit.files import atomic_write
from edgevit.models.fitting import check_weights
from edgevit.models.tensor_file import pack, unpack

__all__ = ["EpochRecord", "RunParts", "read_state", "write_state"]


@dataclass(frozen=True)
class EpochRecord:
    """One line of a run's history.

    Attributes:
        epoch: 1 for the first.
        loss: mean over the steps, of the leading process.
        val_accuracy: of the averaged weights; None where they were not validated.
    """

    epoch: int
    loss: float
    val_accuracy: float | None


@dataclass(frozen=True)
class RunParts:
    """The objects of a run that change from step to step."""

    model: nn.Module
    average: nn.Module
    terms: nn.Module  # of the loss
    optimizer: torch.optim.Optimizer


def write_state(path: Path, parts: RunParts, identity: object, history: tuple[EpochRecord, ...]) -> None:
    """Keep the state of a run, whole or not at all.

    Args:
        path: the file.
        parts: what to keep.
        identity: settings, data and whatever else the result depends on, as JSON has it.
        history: an entry for each epoch done.

    Raises:
        InputError: the file cannot be written.
    """
    metadata = {
        "identity": strict_json.encode(identity).decode(),
        "history": strict_json.encode(history).decode(),
    }
    tensors = {f"model/{name}": value for name, value in parts.model.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in parts.average.state_dict().items()}
    tensors |= {f"terms/{name}": value for name, value in parts.terms.state_dict().items()}
    for index, state in parts.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in state.items()}
    atomic_write(path, pack(tensors, metadata))


def read_state(path: Path, parts: RunParts, identity: object) -> tuple[EpochRecord, ...]:
    """Put a kept state back into the objects of the same run, and give its history.

    Raises:
        InputError: there is no state, it is damaged, or it is another run's; the line names what differs.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); start again in another --output") from error
    tensors, metadata = unpack(data, str(path))
    if set(metadata) != {"identity", "history"}:
        raise InputError(f"{path}: no state of a training run; start again in another --output")
    kept = strict_json.parse(metadata["identity"].encode(), f"{path}: identity")
    for place, before, now in _differences(_completed(kept), strict_json.plain(identity), ()):
        raise InputError(
            f"{path}: the run had {' '.join(place)} {before}, now it is {now}; give the same, or another --output"
        )
    history = strict_json.decode(tuple[EpochRecord, ...], metadata["history"].encode(), f"{path}: history")
    for part, module in (("model", parts.model), ("average", parts.average), ("terms", parts.terms)):
        weights = _below(part, tensors)
        check_weights(module, weights, f"{path}: {part}")
        module.load_state_dict(weights)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _below("optimizer", tensors).items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = value
    parts.optimizer.load_state_dict({**parts.optimizer.state_dict(), "state": state})
    return history


# What runs did before there were these settings, so that theirs can still be resumed.
_ONCE = {
    "layer_decay": 1.0,
    "freeze_stem": False,
    "ib_weight": None,
    "ib_after": 0.3,
    "reduced_loss": {"keep": 2.0, "teacher": 0.5},
}


def _completed(identity: Any) -> Any:
    """An identity with the settings and facts that it lacks because it is older than they are."""
    if not isinstance(identity, dict) or not isinstance(identity.get("settings"), dict):
        return identity
    config = identity.get("config")
    if isinstance(config, dict) and "recursions" in config:
        identity = identity | {"config": {"early_merge": None} | config}
    return {"teacher": None} | identity | {"settings": _ONCE | identity["settings"]}


def _below(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}/"): value for name, value in tensors.items() if name.startswith(f"{part}/")}


def _differences(before: Any, now: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Where two JSON values differ: the keys on the way, and both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before | now):
            yield from _differences(before.get(key), now.get(key), (*place, key))
    elif before != now:
        yield place, before, now
