"""The files that `edgevit bench` writes: refused before anything is measured, or written once everything is."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit import console
from edgevit.errors import EdgevitError, InputError, MissingExtra

if TYPE_CHECKING:
    from edgevit.benchmarks import Measurement

__all__ = ["Reports", "require"]


@dataclass(frozen=True)
class Reports:
    """Where each kind of report goes; None for none of it."""

    output: Path | None = None
    csv: Path | None = None
    html: Path | None = None

    def check(self, bundles: Sequence[Path], data: Path | None, inputs: Sequence[Path]) -> None:
        """Refuse what could not be written, or would overwrite what is read.

        Args:
            bundles: that are measured.
            data: folder of their images.
            inputs: further files that are read.

        Raises:
            InputError: a file in no folder, in a place that is none for it, or given twice.
            MissingExtra: what makes the page is not installed.
        """
        seen: dict[Path, str] = {}
        for option, path in self._asked():
            place = path.resolve()
            _check_writable(option, path, place)
            if place in seen:
                raise InputError(f"{option} {path}: is the file of {seen[place]} too; give each a file of its own")
            seen[place] = option
            if any(place == other.resolve() for other in inputs):
                raise InputError(f"{option} {path}: is read by this run; write to another file")
            for bundle in bundles:
                if bundle.resolve() in place.parents:
                    raise InputError(
                        f"{option} {path}: lies in the bundle {bundle}, which never changes; write beside it"
                    )
            if data is not None and data.resolve() in place.parents and _is_image(place):
                raise InputError(f"{option} {path}: would be one of the images of --data; write to another file")
        if self.html is not None:
            require("plotly", "plotly")

    def write(self, measurement: Measurement) -> list[EdgevitError]:
        """Write them, the lossless one first; what goes wrong with one keeps no other from being written."""
        from edgevit.benchmarks import measurement_to_csv, measurement_to_html, measurement_to_json
        from edgevit.files import atomic_write

        problems: list[EdgevitError] = []
        makers: list[tuple[Path | None, Callable[[], bytes]]] = [
            (self.output, partial(measurement_to_json, measurement)),
            (self.csv, partial(measurement_to_csv, measurement)),
            (self.html, lambda: measurement_to_html(measurement).encode()),
        ]
        for path, make in makers:
            if path is not None:
                try:
                    atomic_write(path, make())
                except EdgevitError as error:
                    problems.append(error)
        return problems

    def tell(self) -> None:
        """Say where they are."""
        for path, holds in ((self.output, "every sample"), (self.csv, "a row a query"), (self.html, "the page")):
            if path is not None and path.is_file():
                console.note(f"{holds} in {path}")

    def _asked(self) -> list[tuple[str, Path]]:
        named = (("--output", self.output), ("--csv", self.csv), ("--html", self.html))
        return [(option, path) for option, path in named if path is not None]


def require(library: str, distribution: str) -> None:
    """Refuse to measure for a report that could not be made.

    Raises:
        MissingExtra: the library is not installed.
        InputError: nor can it be, on this machine.
    """
    if find_spec(library) is not None:
        return
    if library == "mlperf_loadgen" and platform.machine() != "x86_64":
        raise InputError(
            f"{distribution} is built for x86_64 and not for {platform.machine()}; leave --check-loadgen out"
        )
    raise MissingExtra(distribution, "bench")


def _check_writable(option: str, path: Path, place: Path) -> None:
    if place.is_dir():
        raise InputError(f"{option} {path}: is a folder; wanted a file to write")
    if place.exists() and not place.is_file():
        raise InputError(f"{option} {path}: is no regular file, and would be replaced by one; wanted a file to write")
    if not place.parent.is_dir():
        raise InputError(f"{option} {path}: there is no folder {path.parent}; make it first, or write elsewhere")
    if not os.access(place.parent, os.W_OK):
        raise InputError(f"{option} {path}: the folder {path.parent} cannot be written to; write elsewhere")


def _is_image(path: Path) -> bool:
    from edgevit.image_folder import IMAGE_EXTENSIONS

    return path.suffix.lower() in IMAGE_EXTENSIONS
