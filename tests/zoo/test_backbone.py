"""Classifiers of timm's: opened by name, prepared for, and brought into the form for inference."""

from __future__ import annotations

import pytest

pytest.importorskip("timm", reason="the models are timm's")

import timm
import torch

from edgevit.errors import InputError
from edgevit.models.backbone import TimmClassifier, layout_of, open_backbone
from edgevit.models.backbone_config import TimmConfig
from edgevit.preprocess import Preprocess


def test_a_classifier_comes_with_timms_own_preprocessing() -> None:
    module, config, preprocess = open_backbone("vit_tiny_patch16_224.augreg_in21k_ft_in1k", classes=5)
    assert config == TimmConfig(name="vit_tiny_patch16_224.augreg_in21k_ft_in1k", classes=5, image_size=224)
    assert preprocess == Preprocess(
        height=224, width=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resize="crop", crop_fraction=0.9,
        interpolation="bicubic",
    )  # fmt: skip
    assert module(torch.zeros(1, 3, 224, 224)).shape == (1, 5)


def test_preprocessing_is_what_timm_does_to_a_picture() -> None:
    from timm.data import create_transform, resolve_data_config

    from edgevit.samples import surface

    _, _, preprocess = open_backbone("mobilevit_xxs", classes=2)
    picture = surface("red_iron", 0, (320, 300))
    transform = create_transform(**resolve_data_config({}, model=timm.create_model("mobilevit_xxs")))
    theirs = transform(picture)
    assert isinstance(theirs, torch.Tensor)
    difference = (torch.from_numpy(preprocess(picture)) - theirs).abs()
    assert difference.mean() < 0.01  # they round the resized picture's size to whole pixels before they crop


@pytest.mark.parametrize("name, classes", [("tiny_vit_5m_224", 1000), ("deit_tiny_patch16_224", 1000)])
def test_a_head_has_a_thousand_classes_where_timm_says_more(name: str, classes: int) -> None:
    assert open_backbone(name)[1].classes == classes


def test_random_weights_are_the_same_every_time_and_leave_the_callers_random_state_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = open_backbone("mobilevit_xxs", classes=2)[0].state_dict()
    assert torch.equal(torch.rand(3), expected)
    second = open_backbone("mobilevit_xxs", classes=2)[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["efficientvit_b0", "efficientvit_m0", "tiny_vit_5m_224"])
def test_a_random_model_answers_pictures_differently_and_no_weight_is_all_zero(name: str) -> None:
    module, config, _ = open_backbone(name, classes=10)
    torch.manual_seed(1)
    with torch.no_grad():
        logits = module(torch.randn(2, 3, config.image_size, config.image_size))
    assert (logits[0] - logits[1]).abs().max() > 1e-2
    assert all(parameter.any() for parameter in module.parameters())


@pytest.mark.parametrize(
    "name",
    ["mobilevit_xxs", "efficientvit_b0", "efficientvit_m0", "tiny_vit_5m_224", "deit_tiny_distilled_patch16_224"],
)
def test_the_form_for_inference_answers_the_same_without_fused_attention(name: str) -> None:
    module, config, _ = open_backbone(name, classes=10)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    image = torch.randn(2, 3, config.image_size, config.image_size)
    form = module.inference_form()
    with torch.no_grad():
        torch.testing.assert_close(form(image), module(image), atol=1e-4, rtol=1e-4)
    assert not any(getattr(part, "fused_attn", False) for part in form.modules())
    assert not any(parameter.requires_grad for parameter in form.parameters())
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize(
    "name, size", [("deit_tiny_patch16_224", 160), ("mobilevit_xxs", 128), ("swin_tiny_patch4_window7_224", 112)]
)
def test_another_image_size_is_taken_where_the_architecture_allows_it(name: str, size: int) -> None:
    module, config, preprocess = open_backbone(name, classes=3, image_size=size)
    assert (config.image_size, preprocess.height, preprocess.width) == (size, size, size)
    assert module(torch.zeros(1, 3, size, size)).shape == (1, 3)


@pytest.mark.parametrize(
    "name, size, line",
    [
        ("deit_tiny_patch16_22", None, "timm has no model 'deit_tiny_patch16_22'; did you mean deit_tiny_patch16_224"),
        ("deit_tiny_patch16_224.in1k", None, "timm has no tag 'in1k' of deit_tiny_patch16_224; it has: fb_in1k"),
        ("deit_tiny_patch16_224", 230, "a multiple of 16 pixels a side, not 230; give 224 or 240"),
        ("mobilevit_xxs", 224, "a multiple of 64 pixels a side, not 224; give 192 or 256"),
    ],
)
def test_what_cannot_be_opened_is_refused_in_one_line(name: str, size: int | None, line: str) -> None:
    with pytest.raises(InputError, match=line) as caught:
        open_backbone(name, image_size=size)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changed, line",
    [
        ({"interpolation": "lanczos"}, "interpolation 'lanczos'"),
        ({"crop_mode": "border"}, "crop mode 'border'"),
        ({"input_size": (3, 224, 192)}, "an input of 224 x 192"),
        ({"input_size": (1, 224, 224)}, "1 channels"),
    ],
)
def test_preprocessing_that_cannot_be_expressed_is_refused(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, object], line: str
) -> None:
    from dataclasses import replace

    record = replace(timm.get_pretrained_cfg("deit_tiny_patch16_224"), **changed)  # type: ignore[arg-type]
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: record)
    with pytest.raises(InputError, match=line):
        open_backbone("deit_tiny_patch16_224")


@pytest.mark.parametrize(
    "name, layout",
    [
        ("vit_small_patch16_224", "sequence"),
        ("deit_small_distilled_patch16_224", "sequence"),
        ("swin_tiny_patch4_window7_224", "swin"),
        ("mobilevit_s", "mobilevit"),
        ("efficientvit_b1", "efficientvit"),
        ("efficientvit_m4", None),
        ("efficientformer_l1", None),
        ("mobilevitv2_050", None),
    ],
)
def test_the_layout_says_what_a_backbone_can_carry(name: str, layout: str | None) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    assert layout_of(model) == layout


def test_vit_base_is_built_as_timm_counts_it() -> None:
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224")
    module = TimmClassifier(model, TimmConfig(name="vit_base_patch16_224", classes=1000, image_size=224))
    assert sum(parameter.numel() for parameter in module.parameters()) == 86_567_656
    assert layout_of(module.model) == "sequence"
