from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.models.deploy import default_routing, deploy, routing_spec
from edgevit.models.layers import Attention, decomposed_attention, fused_attention
from edgevit.models.recursive import RecursiveConfig, RecursiveViT, dense_twin
from edgevit.models.routing import route_dense, route_mask, route_topk
from edgevit.spec import RoutingSpec

EXPERT = RecursiveConfig(
    image_size=16, patch_size=4, classes=3, width=8, heads=2, depth=1, recursions=3, capacities=(1.0, 0.5, 0.25),
    thresholds=(0.1, 0.2), pool="cls+mean", stem="conv",
)  # fmt: skip
UNCALIBRATED = replace(EXPERT, thresholds=None)
TOKEN = replace(EXPERT, router="token_choice", thresholds=None)
DENSE = dense_twin(EXPERT)
IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def trained(config: RecursiveConfig) -> RecursiveViT:
    """A model as training leaves it: in training mode, with gradients on and statistics in its batch norms."""
    torch.manual_seed(0)
    model = RecursiveViT(config)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, mean=1.0, std=0.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.train()


class Plain(nn.Module):
    """Somebody's own module, which knows nothing of edgevit but its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU())
        self.attention = Attention(8, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.attention(self.stem(image).flatten(2).transpose(1, 2)).mean(dim=1))
        return logits


@pytest.mark.parametrize(
    "config, mode, selection",
    [
        (EXPERT, "topk", None),
        (EXPERT, "topk", "top-k"),
        (EXPERT, "mask", None),
        (EXPERT, "mask", "top-k"),
        (EXPERT, "mask", "threshold"),
        (TOKEN, "mask", None),
        (EXPERT, "adaptive", None),
        (EXPERT, "adaptive", "threshold"),
        (TOKEN, "adaptive", None),
    ],
)
def test_a_deployed_model_answers_as_the_trained_one(config: RecursiveConfig, mode: Any, selection: Any) -> None:
    model = trained(config)
    deployed = deploy(model, routing_spec(model, mode, selection))
    logits, depth, counts = deployed(IMAGE)
    model.eval()
    rule = "threshold" if mode == "adaptive" and config is EXPERT else selection
    wanted = route_topk(model, IMAGE) if mode == "topk" else route_mask(model, IMAGE, rule)
    torch.testing.assert_close(logits, wanted.logits, atol=1e-5, rtol=1e-5)
    assert deployed.output_names == ("logits", "depth", "counts")
    assert depth.tolist() == wanted.depth.tolist()
    assert counts.tolist() == wanted.counts.tolist()
    assert depth.dtype == counts.dtype == torch.int32


def test_a_deployed_model_without_a_router_has_logits_alone() -> None:
    model = trained(DENSE)
    assert routing_spec(model, "dense") is None
    deployed = deploy(model, None)
    assert deployed.output_names == ("logits",)
    (logits,) = deployed(IMAGE)
    torch.testing.assert_close(logits, route_dense(model.eval(), IMAGE).logits, atol=1e-5, rtol=1e-5)


def test_the_trace_can_be_left_out() -> None:
    model = trained(EXPERT)
    deployed = deploy(model, routing_spec(model, "topk"), trace=False)
    assert deployed.output_names == ("logits",)
    (logits,) = deployed(IMAGE)
    assert torch.equal(logits, deploy(model, routing_spec(model, "topk"))(IMAGE)[0])


def test_a_module_of_ones_own_is_deployed_too() -> None:
    model = Plain().train()
    nn.init.normal_(model.stem[1].running_mean)
    deployed = deploy(model, None)
    torch.testing.assert_close(deployed(IMAGE)[0], model.eval()(IMAGE), atol=1e-5, rtol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())


@pytest.mark.parametrize("model", [trained(EXPERT), Plain().train()])
def test_the_model_itself_is_left_as_it_was(model: nn.Module) -> None:
    weights, structure = copy.deepcopy(model.state_dict()), str(model)
    deploy(model, routing_spec(model, default_routing(model)))(IMAGE)
    assert str(model) == structure
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert {module.attend for module in model.modules() if isinstance(module, Attention)} == {fused_attention}


def test_nothing_of_training_is_left() -> None:
    model = trained(EXPERT)
    deployed = deploy(model, routing_spec(model, "topk"))
    assert not deployed.model.training
    assert not any(parameter.requires_grad for parameter in deployed.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())
    attends = {module.attend for module in deployed.modules() if isinstance(module, Attention)}
    assert attends == {decomposed_attention}


@pytest.mark.parametrize(
    "config, selection, branches, mode",
    [
        (EXPERT, None, True, "adaptive"),
        (EXPERT, "threshold", True, "adaptive"),
        (EXPERT, "top-k", True, "topk"),
        (EXPERT, None, False, "topk"),
        (EXPERT, "threshold", False, "mask"),
        (UNCALIBRATED, None, True, "topk"),
        (UNCALIBRATED, "top-k", False, "topk"),
        (TOKEN, None, True, "adaptive"),
        (TOKEN, None, False, "mask"),
        (DENSE, None, True, "dense"),
        (DENSE, None, False, "dense"),
    ],
)
def test_the_default_routing_follows_router_rule_and_runtime(
    config: RecursiveConfig, selection: Any, branches: bool, mode: str
) -> None:
    model = RecursiveViT(config)
    assert default_routing(model, selection, branches=branches) == mode
    spec = routing_spec(model, default_routing(model, selection, branches=branches), selection)
    assert spec is None if mode == "dense" else spec is not None


def test_a_spec_says_what_the_graph_does() -> None:
    common: dict[str, Any] = {"steps": 3, "grid": (4, 4)}
    expert, token = RecursiveViT(EXPERT), RecursiveViT(TOKEN)
    assert routing_spec(expert, "topk") == RoutingSpec(
        mode="topk", router="expert_choice", selection="top-k", capacities=(16, 8, 4), **common
    )
    assert routing_spec(expert, "mask", "threshold") == RoutingSpec(
        mode="mask", router="expert_choice", selection="threshold", thresholds=(0.1, 0.2), **common
    )
    assert routing_spec(expert, "adaptive") == RoutingSpec(
        mode="adaptive",
        router="expert_choice",
        selection="threshold",
        thresholds=(0.1, 0.2),
        budgets=((0, 1, 4, 16), (0, 1, 4, 16)),
        **common,
    )
    assert routing_spec(token, "mask") == RoutingSpec(mode="mask", router="token_choice", selection=None, **common)


UNCALIBRATED_LINE = "the model has no thresholds to choose by; calibrate it first (edgevit train --calibrate), or use"
ROUTED = "--routing topk, --routing adaptive or --routing mask"
REFUSALS: list[tuple[RecursiveConfig, str, str | None, str]] = [
    (DENSE, "topk", None, "--routing topk for a model without a router; use --routing dense and no --selection"),
    (DENSE, "mask", None, "--routing mask for a model without a router; use --routing dense and no --selection"),
    (
        DENSE,
        "adaptive",
        None,
        "--routing adaptive for a model without a router; use --routing dense and no --selection",
    ),
    (DENSE, "dense", "top-k", "--selection top-k for a model without a router; use --routing dense and no --selection"),
    (DENSE, "mask", "threshold", "--routing mask for a model without a router; use --routing dense and no --selection"),
    (EXPERT, "dense", None, f"--routing dense for a model with a router would answer differently; use {ROUTED}"),
    (
        EXPERT,
        "adaptive",
        "top-k",
        "--routing adaptive follows the picture, --selection top-k takes a fixed count; use one of the two",
    ),
    (
        EXPERT,
        "topk",
        "threshold",
        "--routing topk takes a fixed count; use --routing adaptive or --routing mask for --selection threshold",
    ),
    (
        UNCALIBRATED,
        "mask",
        "threshold",
        f"{UNCALIBRATED_LINE} --routing topk",
    ),
    (
        UNCALIBRATED,
        "adaptive",
        None,
        f"{UNCALIBRATED_LINE} --routing topk",
    ),
    (
        TOKEN,
        "dense",
        None,
        "--routing dense for a model with a router would answer differently; use --routing adaptive or --routing mask",
    ),
    (
        TOKEN,
        "adaptive",
        "threshold",
        "--selection threshold is for expert choice; this model's router is token_choice: leave it out",
    ),
    (
        TOKEN,
        "topk",
        None,
        "--routing topk for a token-choice model, whose count follows the image; "
        "use --routing adaptive or --routing mask",
    ),
    (
        TOKEN,
        "mask",
        "top-k",
        "--selection top-k is for expert choice; this model's router is token_choice: leave it out",
    ),
    (
        TOKEN,
        "mask",
        "threshold",
        "--selection threshold is for expert choice; this model's router is token_choice: leave it out",
    ),
]


@pytest.mark.parametrize("config, mode, selection, line", REFUSALS)
def test_a_mode_that_does_not_fit_is_refused_in_one_line(
    config: RecursiveConfig, mode: Any, selection: Any, line: str
) -> None:
    with pytest.raises(InputError) as refusal:
        routing_spec(RecursiveViT(config), mode, selection)
    assert str(refusal.value) == line


def test_a_module_of_ones_own_is_not_routed() -> None:
    with pytest.raises(InputError, match="--routing topk for a model without a router"):
        routing_spec(Plain(), "topk")
