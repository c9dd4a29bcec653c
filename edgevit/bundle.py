"""A bundle on disk, read with suspicion: no byte of a file is handed out before its hash was checked.

A bundle is a flat folder of regular files: `manifest.json` and exactly the files it lists. It never changes; what a
device adds (engines, measurements, caches) goes to the folder beside it.

Does not know: what a graph is, any runtime, how a bundle is written (bundle_writer.py).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from edgevit.errors import InputError
from edgevit.files import reading, sha256
from edgevit.manifest import MANIFEST_NAME, Manifest
from edgevit.npz import unpack_arrays

__all__ = ["ACTIVE", "ENTER_NAME", "GOLDEN_NAME", "GRAPH_NAME", "STATE", "Bundle", "Stages", "device_dir", "rest_name"]

GRAPH_NAME = "model.onnx"
ENTER_NAME = "enter.onnx"
STATE, ACTIVE = "state", "active"  # its outputs: float32 B x M, and int32 B
GOLDEN_NAME = "golden.npz"

_MAX_MANIFEST_BYTES = 16 * 2**20
_WANTED = "wanted a bundle, the folder that edgevit export writes"
_REMEDY = "the bundle was changed or damaged; copy or export it again"


def rest_name(budget: int) -> str:
    """The file of the graph that runs every later step in `budget` tokens."""
    return f"rest-{budget}.onnx"


@dataclass(frozen=True)
class Stages:
    """The graphs of a staged bundle, between which the host chooses.

    Attributes:
        enter: the file of the graph up to the first choice: from `image` to `state`, float32 B x M, and `active`,
            int32 B, the tokens that each image takes to its second step.
        rests: the file of the graph from `state` to the bundle's outputs for each budget, rising up to all tokens; its
            answer is exact for a batch in which no image has more active tokens than the budget.
    """

    enter: str
    rests: Mapping[int, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Every file, in the order in which they run."""
        return (self.enter, *self.rests.values())


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. `open` checks its shape; `read` checks a file's content.

    Attributes:
        path: the folder, absolute.
        manifest: what the bundle says of itself.
        digest: SHA-256 of `manifest.json`, which through its hashes stands for every byte of the bundle.
    """

    path: Path
    manifest: Manifest
    digest: str

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read the manifest and check that the folder holds the files it lists, of the sizes it states, and no others.

        Raises:
            InputError: no bundle there; a manifest that is damaged or of a newer schema; a file that is missing,
                unlisted, of another size or not a regular file.
        """
        with reading(Path(path), _WANTED):
            root = Path(path).resolve()
            if not root.exists():
                raise InputError(f"{root}: no such folder; {_WANTED}")
            sizes = _regular_files(root)
        if MANIFEST_NAME not in sizes:
            raise InputError(f"{root}: holds no {MANIFEST_NAME}; {_WANTED}")
        manifest_size = sizes.pop(MANIFEST_NAME)
        if manifest_size > _MAX_MANIFEST_BYTES:
            raise InputError(f"{root / MANIFEST_NAME}: is {manifest_size} bytes, wanted {_MAX_MANIFEST_BYTES} at most")
        data = _read(root / MANIFEST_NAME, manifest_size)
        manifest = Manifest.from_json(data, str(root / MANIFEST_NAME))
        listed = manifest.files.keys()
        for problem, names in (("missing", listed - sizes.keys()), ("unlisted", sizes.keys() - listed)):
            if names:
                raise InputError(f"{root}: {problem} file {', '.join(map(repr, sorted(names)))}; {_REMEDY}")
        for name, record in sorted(manifest.files.items()):
            if sizes[name] != record.size_bytes:
                raise InputError(f"{root / name}: is {sizes[name]} bytes, wanted {record.size_bytes}; {_REMEDY}")
        return cls(root, manifest, sha256(data))

    @cached_property
    def stages(self) -> Stages | None:
        """The graphs of a bundle whose routing the host dispatches; None for a bundle of one graph.

        Raises:
            InputError: it has neither one graph nor stages, or not just those that its budgets call for.
        """
        graphs = {name for name in self.manifest.files if name.endswith(".onnx")}
        if graphs == {GRAPH_NAME}:
            return None
        routing = self.manifest.routing
        ladders = set(routing.budgets) if routing is not None else set()
        if len(ladders) != 1:  # the budgets of all later steps are the same where the host chooses once
            raise InputError(
                f"{self.path}: has graphs {', '.join(sorted(graphs)) or 'none'}, wanted {GRAPH_NAME}; {_REMEDY}"
            )
        stages = Stages(ENTER_NAME, {budget: rest_name(budget) for budget in ladders.pop()})
        if graphs != set(stages.names):
            raise InputError(
                f"{self.path}: has graphs {', '.join(sorted(graphs)) or 'none'}, and its budgets want "
                f"{', '.join(stages.names)}; {_REMEDY}"
            )
        return stages

    @property
    def graphs(self) -> tuple[str, ...]:
        """The file of its graph, or of each of its stages in the order in which they run.

        Raises:
            InputError: as `stages`.
        """
        return (GRAPH_NAME,) if self.stages is None else self.stages.names

    def read(self, name: str) -> bytes:
        """The bytes of a file, after their hash was checked: what is returned is what was hashed.

        Raises:
            InputError: the manifest lists no such file, it cannot be read, or its hash differs.
        """
        record = self.manifest.files.get(name)
        if record is None and name == GRAPH_NAME and ENTER_NAME in self.manifest.files:
            raise InputError(f"{self.path}: is in stages, wanted one graph; export it again with --target cpu-x86")
        if record is None:
            raise InputError(f"{self.path}: lists no file {name!r}; it has {', '.join(sorted(self.manifest.files))}")
        data = _read(self.path / name, record.size_bytes)
        if sha256(data) != record.sha256:
            raise InputError(f"{self.path / name}: SHA-256 differs from the manifest's; {_REMEDY}")
        return data

    def golden(self) -> dict[str, np.ndarray]:
        """The golden samples: reference inputs and outputs by name, read-only.

        Raises:
            InputError: as `read`, or the file holds something other than plain arrays.
        """
        return unpack_arrays(self.read(GOLDEN_NAME), str(self.path / GOLDEN_NAME))

    def verify_files(self) -> None:
        """Check the hash of every file.

        Raises:
            InputError: one cannot be read or differs; the line names it.
        """
        for name in sorted(self.manifest.files):
            self.read(name)


def device_dir(bundle: Bundle) -> Path:
    """The folder beside a bundle for what a device adds to it: engines, measurements, caches."""
    return bundle.path.with_name(f"{bundle.path.name}.device")


def _regular_files(root: Path) -> dict[str, int]:
    """Size in bytes of each entry of a folder, all of which must be regular files: no link leads out of a bundle."""
    sizes = {}
    with os.scandir(root) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{root}: {entry.name!r} is not a regular file; {_REMEDY}")
            sizes[entry.name] = status.st_size
    return sizes


def _read(path: Path, size_bytes: int) -> bytes:
    """Read a file of a size that was checked; one that has been swapped for a link since is not followed."""
    with reading(path, _REMEDY), open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read(size_bytes + 1)
