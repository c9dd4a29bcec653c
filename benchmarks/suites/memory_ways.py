"""The ways to run a model whose memory is compared, each a function of a path and a number of threads.

Each imports what it needs itself: a process measures one, and another's library would be in the figures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def edgevit_runner(path: str, threads: int):
    from edgevit.runtimes.choose import open_runner

    return open_runner(path, "ort", threads=threads)


def all_active(path: str, threads: int):
    """An adaptive bundle whose every step takes every token, so that the largest branches run."""
    from edgevit.runtimes.worst_case import open_worst_case

    return open_worst_case(path, "ort", threads=threads)


def in_memory(path: str, threads: int):
    """What a bundle costs where nothing can be written beside it."""
    from edgevit.runtimes.ort import OrtRunner

    return OrtRunner(Path(path) / "model.onnx", threads=threads)


def one_node(path: str, threads: int):
    """What comes before edgevit's own rows: its modules, its arena."""
    from edgevit.runtimes import choose
    from edgevit.runtimes.ort import OrtRunner

    assert choose.RUNTIMES, "imported, since it is not what a model adds"
    return OrtRunner(Path(path), threads=threads)


class PlainSession:
    """ONNX Runtime as its manual shows it."""

    def __init__(self, path: str, threads: int) -> None:
        self._path, self._threads = path, threads

    def __enter__(self) -> PlainSession:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        self._session = onnxruntime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name
        return self

    def __exit__(self, *exception: object) -> None:
        del self._session

    def __call__(self, image: np.ndarray) -> object:
        return self._session.run(None, {self._name: image})


def openvino(path: str, threads: int):
    sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
    from runners import OpenVinoRunner

    return OpenVinoRunner(path)


def torch_eager(path: str, threads: int):
    import torch

    sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
    from runners import torch_eager

    torch.set_num_threads(threads)
    return torch_eager(path)
