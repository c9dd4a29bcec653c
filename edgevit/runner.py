"""The Runner protocol: one loaded graph on one runtime.

A protocol and not a base class, because a runner shares a shape with the others and no code: each file in
`runtimes/` knows one vendor library and nothing of its neighbours, and a user's own runner needs no edgevit
import to be one. Resist adding to it: whatever only some runtimes can do is a protocol of its own beside it.

A runner does not know: models, labels, preprocessing, bundles' manifests, the clock. It never times itself
and never falls back to another device or provider than the one it was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np

from edgevit.spec import TensorSpec

__all__ = ["Runner"]


@runtime_checkable
class Runner(Protocol):
    """One loaded graph on one runtime.

    Contract:
        - Constructing is cheap and touches no device; entering the context loads the graph, leaving it frees
          everything. A runner may be entered again after it was left.
        - `input`, `outputs` and `facts` are valid only inside the context.
        - `__call__` takes one C-contiguous float32 array of exactly `input.shape` and returns the outputs by
          name. The caller owns the returned arrays: a later call does not change them.
        - `__call__` outside the context, with another dtype or with another shape raises `InputError`.
        - Calls from several threads are safe; whether they overlap is the runtime's choice.
    """

    @property
    def input(self) -> TensorSpec:
        """The one input, `image`: float32, B x 3 x H x W."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs in graph order; `logits` is always among them."""

    @property
    def facts(self) -> Mapping[str, str | int]:
        """What runs, for reports: `runtime` and `version`, and on what (`provider`, `device`, `threads`)."""

    def __enter__(self) -> Runner: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Run the graph once: B x 3 x H x W float32 in, each output by name."""
