"""The cost model against the GMACs that timm publishes (results/benchmark-infer-*.csv), random weights.

timm counts with fvcore: a multiply-add is one, and unlike here a BatchNorm is 2 for each element and a LayerNorm or
GroupNorm 5. An exported graph has its BatchNorms folded away, so the norms are counted from the module and set beside
the products: the sum is what timm prints, to its last digit.
"""

from __future__ import annotations

import pytest

pytest.importorskip("timm", reason="the models are timm's")

import onnx_ir as ir
import torch
from torch import nn

from edgevit.export.cost import Cost, count
from edgevit.export.fold_constants import fold_constants
from edgevit.export.name_nodes import name_nodes
from edgevit.export.shapes import with_shapes
from edgevit.export.trace import trace
from edgevit.models.backbone import open_backbone
from edgevit.models.deploy import deploy

# name, GMACs as published, pixels a side
PUBLISHED = [
    ("deit_small_patch16_224", 4.61, 224),
    ("vit_small_patch16_224", 4.61, 224),
    ("swin_tiny_patch4_window7_224", 4.51, 224),
    ("mobilevit_s", 2.03, 256),
    ("efficientvit_b1", 0.53, 224),
    ("efficientvit_m4", 0.30, 224),
    ("tiny_vit_5m_224", 1.27, 224),
    ("efficientformer_l1", 1.30, 224),
]
ROUNDING = 0.005  # two decimals are published


def cost_of(module: nn.Module, size: int) -> Cost:
    """Costs of the graph as it is traced; what a graph must keep to leave the exporter is another test's business."""
    model = trace(deploy(module, None), (1, 3, size, size), 20)
    fold_constants(model)
    name_nodes(model)
    shaped: ir.Model = with_shapes(model)
    return count(shaped)


def norms_of(module: nn.Module, size: int) -> int:
    """What fvcore adds for the norms of the module."""
    elements = 0

    def add(norm: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal elements
        elements += (2 if isinstance(norm, nn.BatchNorm2d) else 5) * output.numel()

    for part in module.modules():
        if isinstance(part, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)):
            part.register_forward_hook(add)
    with torch.inference_mode():
        module(torch.zeros(1, 3, size, size))
    return elements


@pytest.mark.parametrize("name, gmacs, size", PUBLISHED, ids=[name for name, _, _ in PUBLISHED])
def test_the_count_is_timms(name: str, gmacs: float, size: int) -> None:
    module, _, preprocess = open_backbone(name, 1000)
    assert preprocess.height == size
    cost = cost_of(module, size)
    products = cost.flops / 2e9
    assert products + norms_of(module, size) / 1e9 == pytest.approx(gmacs, abs=ROUNDING)
    assert gmacs - products <= 0.02 * gmacs + ROUNDING, "the norms are all that is left out"
    assert cost.uncounted == ()
    assert len(cost.blocks) >= 10, "the blocks are told apart"
    assert all(block.full_flops == block.flops for block in cost.blocks), "nothing is reduced in a plain model"
