"""timm's plain ViTs opened into halves of blocks: with nothing reduced, the same answer."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("timm", reason="the models are timm's")

import timm
import torch
from torch import Tensor

from edgevit.errors import InputError
from edgevit.models.backbone import TimmClassifier
from edgevit.models.backbone_config import TimmConfig
from edgevit.models.reduction import Stream
from edgevit.models.timm_vit import TimmViT

SMALL = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 2, "num_classes": 5}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit_tiny_patch16_224", {}),
    "distilled": ("deit_tiny_distilled_patch16_224", {}),
    "registers": ("vit_tiny_patch16_224", {"reg_tokens": 3, "no_embed_class": True}),
    "layer scale": ("vit_tiny_patch16_224", {"init_values": 0.5}),
    "q and k norms": ("vit_tiny_patch16_224", {"qk_norm": True, "scale_attn_norm": True}),
    "mean": ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg"}),
    "mean beside CLS": ("vit_tiny_patch16_224", {"global_pool": "avg"}),
    "norm before": ("vit_tiny_patch16_224", {"pre_norm": True, "pos_embed": "none"}),
    "any size": ("vit_tiny_patch16_224", {"dynamic_img_size": True}),
}


def opened(kind: str = "vit", **changed: Any) -> TimmViT:
    name, arguments = KINDS[kind]
    torch.manual_seed(0)
    model = timm.create_model(name, **SMALL | arguments | changed).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return TimmViT(TimmClassifier(model, TimmConfig(name=name, classes=5, image_size=32)))


def begin(vit: TimmViT, image: Tensor) -> Stream:
    n = vit.grid[0] * vit.grid[1]
    return Stream(vit.embed(image), vit.prefix, torch.arange(n).expand(len(image), -1))


def run(vit: TimmViT, stream: Stream) -> Stream:
    for block in range(vit.depth):
        stream = stream._replace(x=vit.feed(block, vit.attend(block, stream).x))
    return stream


@pytest.mark.parametrize("kind", KINDS)
def test_with_nothing_reduced_it_answers_as_timm_does(kind: str) -> None:
    vit = opened(kind)
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features, logits = vit.read(run(vit, begin(vit, image)))
        torch.testing.assert_close(logits, vit.model(image), atol=1e-5, rtol=1e-5)
        theirs = vit.model.forward_head(vit.model.forward_features(image), pre_logits=True)
        torch.testing.assert_close(features, theirs, atol=1e-5, rtol=1e-5)
    assert vit.prefix + 16 == vit.embed(image).shape[1] and vit.grid == (4, 4)


@pytest.mark.parametrize("kind", ["vit", "distilled", "mean"])
def test_a_token_of_two_patches_weighs_as_much_as_two_alike(kind: str) -> None:
    vit = opened(kind)
    p = vit.prefix
    with torch.no_grad():
        twice = begin(vit, torch.randn(1, 3, 32, 32))
        x = twice.x.clone()
        x[:, p + 1] = x[:, p]
        twice = twice._replace(x=x)
        size = torch.ones(1, 15)
        size[0, 0] = 2
        once = twice._replace(x=torch.cat([x[:, :p], x[:, p + 1 :]], dim=1), size=size)
        torch.testing.assert_close(vit.read(run(vit, once))[1], vit.read(run(vit, twice))[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "distilled", "mean"])
def test_tokens_masked_out_are_as_good_as_gone(kind: str) -> None:
    vit = opened(kind)
    p = vit.prefix
    with torch.no_grad():
        stream = begin(vit, torch.randn(2, 3, 32, 32))
        keep = torch.ones(2, 16)
        keep[:, 10:] = 0
        gone = stream._replace(x=stream.x[:, : p + 10])
        expected = vit.read(run(vit, gone))[1]
        torch.testing.assert_close(vit.read(run(vit, stream._replace(keep=keep)))[1], expected, atol=1e-4, rtol=1e-4)


def test_a_gradient_reaches_the_mask_where_it_is_zero() -> None:
    vit = opened()
    keep = torch.zeros(1, 16, requires_grad=True)
    vit.read(run(vit, begin(vit, torch.randn(1, 3, 32, 32))._replace(keep=keep)))[1].sum().backward()
    assert keep.grad is not None and keep.grad.isfinite().all() and keep.grad.any()


def test_keys_and_the_attention_of_cls_are_those_of_the_block() -> None:
    vit = opened("distilled")
    with torch.no_grad():
        stream = begin(vit, torch.randn(2, 3, 32, 32))
        attended = vit.attend(0, stream, keys=True, cls_attention=True)
        part = vit.model.blocks[0]
        q, k, _ = part.attn.qkv(part.norm1(stream.x)).reshape(2, 18, 3, 2, 12).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * 12**-0.5).softmax(dim=-1)
    assert attended.keys is not None and attended.cls_attention is not None
    torch.testing.assert_close(attended.keys, k.mean(dim=1)[:, 2:])
    torch.testing.assert_close(attended.cls_attention, weights.mean(dim=1)[:, 0, 2:])
    assert vit.attend(0, stream)[1:] == (None, None)


def test_blocks_are_left_out_at_random_in_training_alone() -> None:
    vit = opened(drop_path_rate=0.9)
    image = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        kept = vit.eval().read(run(vit, begin(vit, image)))[1]
        assert torch.equal(vit.read(run(vit, begin(vit, image)))[1], kept)
        assert not torch.equal(vit.train().read(run(vit, begin(vit, image)))[1], kept)


def test_weights_keep_the_names_that_timm_gave_them() -> None:
    vit = opened("distilled")
    assert {name.removeprefix("model.") for name in vit.state_dict()} == set(vit.model.state_dict())


@pytest.mark.parametrize(
    "name, arguments, obstacle",
    [
        ("vit_tiny_patch16_224", {"global_pool": "map"}, "its head pools by 'map'"),
        ("vit_tiny_patch16_224", {"patch_drop_rate": 0.5}, "it drops patches at random"),
        ("vit_tiny_patch16_224", {"attn_layer": "diff"}, "its attention \\(DiffAttention\\)"),
        ("vit_small_patch16_18x2_224", {}, "its blocks \\(ParallelThingsBlock\\)"),
        ("eva02_tiny_patch14_224", {"patch_size": 8, "num_heads": 3, "embed_dim": 48}, "of type Eva"),
    ],
)
def test_what_does_not_come_apart_is_refused_with_what_does(
    name: str, arguments: dict[str, Any], obstacle: str
) -> None:
    model = timm.create_model(name, **SMALL | arguments)
    with pytest.raises(InputError, match=f"{name}: .*{obstacle}.*any plain VisionTransformer"):
        TimmViT(TimmClassifier(model, TimmConfig(name=name, classes=5, image_size=32)))
