"""A runner that computes nothing: what is measured with it is the harness, or the session, around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

import numpy as np

from edgevit.spec import TensorSpec

from ._contract import already_entered, check_image, not_entered

__all__ = ["NullRunner"]


class NullRunner:
    """Answers at once with zeros of the declared shapes.

    Args:
        input: the input it asks for.
        outputs: the outputs it gives.
    """

    def __init__(self, input: TensorSpec, outputs: Sequence[TensorSpec]) -> None:
        self._input = input
        self._outputs = tuple(outputs)
        self._entered = False

    @property
    def input(self) -> TensorSpec:
        self._require_entered()
        return self._input

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        self._require_entered()
        return self._outputs

    @property
    def facts(self) -> Mapping[str, str | int]:
        self._require_entered()
        return {"runtime": "null", "version": f"numpy {np.__version__}"}

    def __enter__(self) -> NullRunner:
        if self._entered:
            raise already_entered(self)
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        self._require_entered()
        check_image(image, self._input)
        # Fresh arrays, since the caller owns them; np.zeros of a few kilobytes costs a fraction of a microsecond.
        return {output.name: np.zeros(output.shape, output.dtype) for output in self._outputs}

    def _require_entered(self) -> None:
        if not self._entered:
            raise not_entered(self)
