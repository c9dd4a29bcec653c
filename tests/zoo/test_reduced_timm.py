"""Every method on timm's plain ViTs, and which backbones carry which."""

from __future__ import annotations

from typing import get_args

import pytest

pytest.importorskip("timm", reason="the models are timm's")

import torch

from edgevit.errors import InputError
from edgevit.models.backbone import open_backbone
from edgevit.models.backbone_config import TimmConfig
from edgevit.models.grid_backbones import timm_schedule
from edgevit.models.reduced import reduced_model
from edgevit.models.reduced_config import ReducedConfig
from edgevit.models.reduction import ReducedAt
from edgevit.spec import Method

NAMES = ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"]


def base(name: str) -> TimmConfig:
    return TimmConfig(name=name, classes=5, image_size=64)  # 4 x 4 patches


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", get_args(Method))
def test_a_plain_vit_carries_every_method(method: Method, name: str) -> None:
    schedule = (ReducedAt(1, 9), ReducedAt(3, 5))
    model = reduced_model(ReducedConfig(base=base(name), method=method, schedule=schedule)).eval()
    with torch.no_grad():
        reduced = model.reduce(torch.randn(2, 3, 64, 64))  # type: ignore[operator]
    assert reduced.logits.shape == (2, 5) and reduced.logits.isfinite().all()
    assert model.tokens_per_block[-1] == 5 and model.grid == (4, 4)
    assert int(reduced.assignment.max()) <= 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", get_args(Method))
def test_reducing_nothing_is_the_plain_model(method: Method, name: str) -> None:
    model = reduced_model(ReducedConfig(base=base(name), method=method, schedule=(ReducedAt(2, 16),))).eval()
    plain, _, _ = open_backbone(name, classes=5, image_size=64)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(image), plain.inference_form()(image), atol=1e-5, rtol=1e-5)
    assert not model.reducers
    assert all(torch.equal(model.state_dict()[f"backbone.{key}"], value) for key, value in plain.state_dict().items())


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "mobilevit_xxs", "efficientvit_b0"])
def test_a_two_dimensional_backbone_carries_learned_merging(name: str) -> None:
    plain, config, _ = open_backbone(name, classes=5)
    schedule = timm_schedule(name, plain, "ltm", None)
    model = reduced_model(ReducedConfig(base=config, method="ltm", schedule=schedule)).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, config.image_size, config.image_size)).shape == (1, 5)


@pytest.mark.parametrize(
    "name, method, line",
    [
        ("swin_tiny_patch4_window7_224", "tome", "tome leaves tokens that make no grid"),
        ("efficientvit_m0", "ltm", "of type EfficientVitMsra does not come apart"),
        ("efficientformer_l1", "tome", "of type EfficientFormer does not come apart"),
    ],
)
def test_what_a_backbone_cannot_carry_is_refused_with_those_that_can(name: str, method: Method, line: str) -> None:
    size = open_backbone(name)[1].image_size
    config = TimmConfig(name=name, classes=5, image_size=size)
    with pytest.raises(InputError, match=f"{name}: .*{line}.*any plain VisionTransformer"):
        reduced_model(ReducedConfig(base=config, method=method, schedule=(ReducedAt(0, 4),)))


def test_evit_without_cls_is_refused() -> None:
    config = TimmConfig(name="vit_base_patch32_siglip_gap_256", classes=5, image_size=64)
    with pytest.raises(InputError, match="evit judges tokens by the attention of CLS, and this one has none"):
        reduced_model(ReducedConfig(base=config, method="evit", schedule=(ReducedAt(0, 3),)))


def test_the_schedule_of_a_plain_vit_is_read_as_for_any_other() -> None:
    plain, _, _ = open_backbone("deit_tiny_patch16_224", classes=5)
    assert timm_schedule("tome/deit", plain, "tome", "13")[-1].tokens == 40
    assert timm_schedule("ltm/deit", plain, "ltm", "3:128,7:64") == (ReducedAt(3, 128), ReducedAt(7, 64))
