"""Named tensors as safetensors bytes that tell whether they are whole: what is read is what was written, or an error.

The format (safetensors, README section "Format") has a JSON header with free-form text metadata, and no checksum; a
flipped bit would be another model. So a SHA-256 of everything in the file stands in its metadata.

Does not know: modules, configs, where the bytes are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from edgevit import strict_json
from edgevit.errors import InputError
from edgevit.files import reading

__all__ = ["metadata_of", "pack", "read_tensor_file", "unpack"]

_DIGEST = "sha256"


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Tensors of any device and type, and text about them, as the bytes of a safetensors file.

    Equal tensors and metadata give equal bytes.
    """
    stored = {name: tensors[name].detach().cpu().contiguous() for name in tensors}
    data = save(stored, {**metadata, _DIGEST: _digest(stored, metadata)})
    # The library puts the metadata into an order that differs from call to call.
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def unpack(data: bytes, where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What `pack` was given: the tensors, on the CPU, and the metadata.

    A file that another program wrote has no digest, and what it holds is taken as it stands.

    Args:
        data: bytes of a safetensors file.
        where: what the bytes are, for errors: the file's path.

    Raises:
        InputError: the bytes are a pickle, truncated, otherwise no safetensors, or not those that `pack` gave.
    """
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError) as error:  # the last two: a type of number torch does not have
        raise _refused(data, where, error) from error
    metadata = metadata_of(data, where)
    digest = metadata.pop(_DIGEST, None)
    if digest is not None and digest != _digest(tensors, metadata):
        raise InputError(f"{where}: damaged, its content is not what its SHA-256 says; get a whole copy of it")
    return tensors, metadata


def read_tensor_file(path: Path) -> bytes:
    """The bytes of a file, not yet looked at.

    Raises:
        InputError: it cannot be read.
    """
    with reading(path, "wanted a .safetensors file"):
        return path.read_bytes()


def metadata_of(data: bytes, where: str) -> dict[str, str]:
    """The text in the header, which is JSON after its length in 8 bytes; `safetensors` gives it of files alone.

    Raises:
        InputError: there is no such header.
    """
    try:
        header = strict_json.parse(data[8 : 8 + int.from_bytes(data[:8], "little")], "header")
    except InputError as error:
        raise _refused(data, where, error) from error
    metadata = header.get("__metadata__") or {} if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise _refused(data, where, "a header without named text")
    return {str(key): str(value) for key, value in metadata.items()}


def _refused(data: bytes, where: str, reason: object) -> InputError:
    """What to say of bytes that are no safetensors."""
    if _looks_pickled(data):
        return InputError(
            f"{where}: a pickle, which can run code when opened; wanted .safetensors: "
            "load it where you trust it and save its state_dict with safetensors.torch.save_file"
        )
    return InputError(
        f"{where}: truncated, damaged or no safetensors ({' '.join(str(reason).split())}); get a whole copy of it"
    )


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of the metadata, then of every tensor's name, type, shape and bytes, in the order of the names."""
    names = sorted(tensors)
    described = [[name, str(tensors[name].dtype), tensors[name].shape] for name in names]
    digest = hashlib.sha256(strict_json.encode([metadata, described]))
    for name in names:
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _looks_pickled(data: bytes) -> bool:
    """Whether bytes that are no safetensors begin like torch.save's zip archive or like a bare pickle.

    Only asked of those: a safetensors file begins with the length of its header, which may be these same bytes.
    """
    return data[:4] == b"PK\x03\x04" or (data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"))
