"""From a trained module to an inference module: on a copy, the same answer, ready to be traced."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgevit.errors import InputError
from edgevit.models.adaptive import default_rungs, route_adaptive
from edgevit.models.layers import Attention, decomposed_attention
from edgevit.models.recursive import RecursiveViT
from edgevit.models.reduced_config import ReducedConfig
from edgevit.models.reduction import HasInferenceForm, Reduced, ReducedModel
from edgevit.models.routing import Routed, route_dense, route_mask, route_topk
from edgevit.spec import ReductionSpec, RoutingMode, RoutingSpec, Selection

__all__ = ["Deployed", "default_routing", "deploy", "reduction_spec", "routing_spec"]


class Deployed(nn.Module):
    """A model in one routing mode, with no training-time form left in it.

    Attributes:
        output_names: what `forward` returns, in order.
    """

    def __init__(
        self, model: nn.Module, route: Callable[[Tensor], Routed | Reduced | Tensor], output_names: tuple[str, ...]
    ):
        super().__init__()
        self.model = model
        self.route = route
        self.output_names = output_names

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """B x 3 x H x W float32 to logits B x C and, if named, int32 depth B x n, counts B x R, assignment B x N."""
        outcome = self.route(image)
        if isinstance(outcome, Tensor):
            return (outcome,)
        return tuple(getattr(outcome, name) for name in self.output_names)


def default_routing(model: nn.Module, selection: Selection | None = None, *, branches: bool = True) -> RoutingMode:
    """What a model is exported as unless asked otherwise.

    Args:
        model: any module.
        selection: the rule that was asked for.
        branches: whether the target's runtime can skip what a branch leaves out.

    Returns:
        `adaptive` where the number of tokens follows the picture and the runtime can follow it: token choice, and
        expert choice with calibrated thresholds. Otherwise `topk` for expert choice, `mask` where the rule has no fixed
        count, and `dense` without a router.
    """
    router = model.config.router if isinstance(model, RecursiveViT) else "none"
    if router == "none":
        return "dense"
    assert isinstance(model, RecursiveViT), "nothing else has a router"
    if router == "expert_choice" and selection != "threshold" and (model.config.thresholds is None or selection):
        return "topk"
    if branches:
        return "adaptive"
    return "mask" if router == "token_choice" or selection else "topk"


def routing_spec(model: nn.Module, mode: RoutingMode, selection: Selection | None = None) -> RoutingSpec | None:
    """What a graph of this model in this mode does; None where there is nothing to route.

    `adaptive` has the default rungs at every step.

    Raises:
        InputError: the mode or the rule does not fit the model; the line says what does.
    """
    if not isinstance(model, RecursiveViT) or model.config.router == "none":
        if mode != "dense" or selection is not None:
            asked = f"--routing {mode}" if mode != "dense" else f"--selection {selection}"
            raise InputError(f"{asked} for a model without a router; use --routing dense and no --selection")
        return None
    config = model.config
    if mode == "dense":
        raise InputError(
            f"--routing dense for a model with a router would answer differently; use {_fitting(config.router)}"
        )
    if mode == "adaptive" and selection == "top-k":
        raise InputError(
            "--routing adaptive follows the picture, --selection top-k takes a fixed count; use one of the two"
        )
    if mode == "adaptive" and config.router == "expert_choice":
        selection = "threshold"
    if config.router == "token_choice":
        if mode == "topk":
            raise InputError(
                f"--routing topk for a token-choice model, whose count follows the image; use {_fitting(config.router)}"
            )
        if selection is not None:
            raise InputError(
                f"--selection {selection} is for expert choice; this model's router is token_choice: leave it out"
            )
    elif mode == "topk" and selection == "threshold":
        raise InputError(
            "--routing topk takes a fixed count; use --routing adaptive or --routing mask for --selection threshold"
        )
    elif selection == "threshold" and config.thresholds is None:
        raise InputError(
            "the model has no thresholds to choose by; calibrate it first (edgevit train --calibrate), or use "
            "--routing topk"
        )
    rule: Selection | None = (selection or "top-k") if config.router == "expert_choice" else None
    return RoutingSpec(
        mode=mode,
        router=config.router,
        selection=rule,
        steps=config.recursions,
        grid=config.grid,
        tokens=config.tokens,
        capacities=config.budget if rule == "top-k" else (),
        thresholds=(config.thresholds or ()) if rule == "threshold" else (),
        budgets=(default_rungs(config.tokens),) * (config.recursions - 1) if mode == "adaptive" else (),
    )


def reduction_spec(model: nn.Module) -> ReductionSpec | None:
    """What a graph of this model does with its tokens, routing aside; None where every patch stays a token."""
    if isinstance(model, RecursiveViT) and model.config.early_merge is not None:
        return ReductionSpec(
            method=model.config.early_merge.method, grid=model.config.grid, tokens=(model.config.tokens,)
        )
    if not isinstance(model, ReducedModel) or model.tokens_per_block[-1] == model.grid[0] * model.grid[1]:
        return None
    config = getattr(model, "config", None)
    assert isinstance(config, ReducedConfig), "a reduced model says what it is made of"
    return ReductionSpec(method=config.method, grid=model.grid, tokens=model.tokens_per_block)


def deploy(model: nn.Module, routing: RoutingSpec | None, *, trace: bool = True) -> Deployed:
    """The inference module of a trained one.

    The copy is in eval mode without gradients, batch norms are folded into the convolutions before them, and
    attention is decomposed. The model itself is left as it was.

    Args:
        model: a `RecursiveViT`, a `ReducedModel`, or any module that maps B x 3 x H x W to logits B x C.
        routing: what `routing_spec` gave.
        trace: whether `depth` and `counts` are outputs, where there is routing, and `assignment`, where tokens are
            reduced.
    """
    if isinstance(model, HasInferenceForm):  # what is built on timm has switches of its own
        model = model.inference_form()
    else:
        model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    for module in list(model.modules()):
        if isinstance(module, Attention):
            module.attend = decomposed_attention
        if type(module) is nn.Sequential:  # a subclass may have a forward of its own
            _fold_batch_norms(module)
    reduction = reduction_spec(model)
    names: tuple[str, ...] = ("logits",)
    if trace and routing is not None:
        names += ("depth", "counts")
    if trace and reduction is not None:
        names += ("assignment",)
    if isinstance(model, ReducedModel):
        reduced = model
        return Deployed(model, lambda image: reduced.reduce(image, trace=trace and reduction is not None), names)
    if not isinstance(model, RecursiveViT):
        own = model
        return Deployed(own, lambda image: own(image), names)  # as a bare attribute it would be a second submodule
    recursive = model
    if routing is None:
        return Deployed(model, lambda image: route_dense(recursive, image), names)
    if routing.mode == "adaptive":
        return Deployed(
            model, lambda image: route_adaptive(recursive, image, routing.budgets, routing.selection), names
        )
    if routing.mode == "topk":
        return Deployed(model, lambda image: route_topk(recursive, image), names)
    return Deployed(model, lambda image: route_mask(recursive, image, routing.selection), names)


def _fold_batch_norms(layers: nn.Sequential) -> None:
    for i in range(len(layers) - 1):
        convolution, norm = layers[i], layers[i + 1]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
            layers[i] = fuse_conv_bn_eval(convolution, norm)
            layers[i + 1] = nn.Identity()


def _fitting(router: str) -> str:
    return ("--routing topk, " if router == "expert_choice" else "") + "--routing adaptive or --routing mask"
