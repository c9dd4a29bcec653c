"""A stem that stays as it is while the rest is trained."""

from __future__ import annotations

from torch import nn

from edgevit.training.layers_by_name import stem_of

__all__ = ["freeze_stem", "train_unfrozen"]


def freeze_stem(model: nn.Module) -> None:
    """Take the gradients from all weights before the first block.

    The class token among them: its own position is added to it, so one alone could undo what is frozen in the other.

    Raises:
        InputError: the model names no blocks.
    """
    frozen = set(stem_of(model.state_dict()))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)


def train_unfrozen(model: nn.Module) -> None:
    """Put a model into training mode, but for frozen batch norms: their running statistics would move on."""
    model.train()
    for module in model.modules():
        weights = list(module.parameters(recurse=False))
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()
