"""What has been seen of a graph's values so far, and the file that lets a stopped run go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgevit.errors import InputError
from edgevit.files import atomic_write, reading
from edgevit.npz import pack_arrays, unpack_arrays

from .histogram import BINS, Histogram
from .watched import LARGEST, SMALLEST, sample_name

__all__ = ["Tally", "read_tally", "write_tally"]

_DIGEST = 32  # bytes of a SHA-256


class Tally:
    """Extremes of the watched values and histograms of the sampled ones, over the batches counted.

    Args:
        values: how many are watched.
        sampled: how many of them have a histogram.
    """

    def __init__(self, values: int, sampled: int) -> None:
        self.smallest = np.full(values, np.inf, np.float32)
        self.biggest = np.full(values, -np.inf, np.float32)
        self.histograms = [Histogram() for _ in range(sampled)]
        self.batches: list[bytes] = []

    def add(self, outputs: Mapping[str, np.ndarray], digest: bytes) -> None:
        """Count what a watched graph gave for a batch whose SHA-256 is `digest`."""
        self.smallest = np.minimum(self.smallest, outputs[SMALLEST])
        self.biggest = np.maximum(self.biggest, outputs[LARGEST])
        for index, histogram in enumerate(self.histograms):
            histogram.add(outputs[sample_name(index)])
        self.batches.append(digest)


def write_tally(path: Path, tally: Tally, key: bytes) -> None:
    """Write the tally in one step; `key`, a SHA-256, says what it is a tally of.

    Raises:
        InputError: the file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {
        "key": np.frombuffer(key, np.uint8),
        "batches": np.frombuffer(b"".join(tally.batches), np.uint8).reshape(-1, _DIGEST),
        "smallest": tally.smallest,
        "biggest": tally.biggest,
        "counts": np.array([histogram.counts for histogram in tally.histograms], np.int64).reshape(-1, BINS),
        "exponents": np.array([histogram.exponent for histogram in tally.histograms], np.int64),
    }
    atomic_write(path, pack_arrays(arrays))


def read_tally(path: Path, key: bytes, values: int, sampled: int) -> Tally | None:
    """Read back what `write_tally` wrote for the same key; None if it is a tally of something else.

    Raises:
        InputError: the file is there but cannot be read, or is not one that `write_tally` writes.
    """
    with reading(path, "wanted the partial ranges of an earlier export; delete it"):
        data = path.read_bytes()
    try:
        arrays = unpack_arrays(data, str(path))
    except InputError as error:
        raise _damaged(path) from error
    if set(arrays) != {"key", "batches", "smallest", "biggest", "counts", "exponents"}:
        raise _damaged(path)
    if arrays["key"].tobytes() != key:
        return None
    wanted: Sequence[tuple[str, type, tuple[int, ...]]] = (
        ("smallest", np.float32, (values,)),
        ("biggest", np.float32, (values,)),
        ("counts", np.int64, (sampled, BINS)),
        ("exponents", np.int64, (sampled,)),
        ("batches", np.uint8, (len(arrays["batches"]), _DIGEST)),
    )
    if any(arrays[name].dtype != dtype or arrays[name].shape != shape for name, dtype, shape in wanted):
        raise _damaged(path)
    tally = Tally(values, 0)
    tally.smallest, tally.biggest = arrays["smallest"], arrays["biggest"]
    pairs = zip(arrays["counts"], arrays["exponents"].tolist(), strict=True)
    tally.histograms = [Histogram(counts, exponent) for counts, exponent in pairs]
    tally.batches = [row.tobytes() for row in arrays["batches"]]
    return tally


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: not the partial ranges of an earlier export; delete it, or name another file")
