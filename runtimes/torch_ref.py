"""The reference: a torch module in fp32 on the CPU, under the same protocol as the graph that is judged by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import InputError
from edgevit.spec import TensorSpec

from ._contract import already_entered, check_image, not_entered

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TorchRunner"]


class TorchRunner:
    """A module in eval mode, on the CPU.

    Entering runs the module once on zeros to learn what it returns.

    Args:
        module: takes float32 B x 3 x H x W, returns a tensor or a tuple of tensors of static shape. It stays the
            caller's and is not changed.
        input: name and shape of what the module takes.
        output_names: names of what it returns, in order.
    """

    def __init__(self, module: nn.Module, input: TensorSpec, output_names: Sequence[str]) -> None:
        self._module = module
        self._input = input
        self._output_names = tuple(output_names)
        self._outputs: tuple[TensorSpec, ...] | None = None

    @property
    def input(self) -> TensorSpec:
        self._require_entered()
        return self._input

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._require_entered()

    @property
    def facts(self) -> Mapping[str, str | int]:
        import torch

        self._require_entered()
        return {
            "runtime": "torch",
            "version": str(torch.__version__),
            "device": "cpu",
            "threads": torch.get_num_threads(),
        }

    def __enter__(self) -> TorchRunner:
        if self._outputs is not None:
            raise already_entered(self)
        if self._module.training:
            raise InputError("got a module in training mode, wanted one in eval mode; call module.eval() first")
        answer = self._forward(np.zeros(self._input.shape, np.float32))
        self._outputs = tuple(TensorSpec(name, str(value.dtype), value.shape) for name, value in answer.items())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outputs = None

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        self._require_entered()
        check_image(image, self._input)
        return self._forward(image)

    def _forward(self, image: np.ndarray) -> dict[str, np.ndarray]:
        import torch

        with torch.inference_mode():
            # Copied in and out: a module that writes into its input, or returns a buffer of its own, then
            # touches nothing of the caller's.
            answer = self._module(torch.tensor(image))
            values = [tensor.numpy().copy() for tensor in (answer if isinstance(answer, tuple) else (answer,))]
        if len(values) != len(self._output_names):
            names = ", ".join(self._output_names)
            raise InputError(f"got {len(values)} outputs from the module, wanted {len(self._output_names)}: {names}")
        return dict(zip(self._output_names, values, strict=True))

    def _require_entered(self) -> tuple[TensorSpec, ...]:
        if self._outputs is None:
            raise not_entered(self)
        return self._outputs
