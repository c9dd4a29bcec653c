"""Learned merging in Swin, MobileViT and EfficientViT, on shallow models of each."""

from __future__ import annotations

import math
from typing import Any

import pytest

pytest.importorskip("timm", reason="the models are timm's")

import timm
import torch
from torch import Tensor

from edgevit.errors import InputError
from edgevit.models.backbone import TimmClassifier
from edgevit.models.backbone_config import TimmConfig
from edgevit.models.grid_backbones import GridReducedViT, grid_family, timm_schedule
from edgevit.models.reduced_config import ReducedConfig, Variant
from edgevit.models.reduction import ReducedAt

SWIN = "swin_tiny_patch4_window7_224"
KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    # Blocks 0 | 1 | 2, 3 | 4 of 28 x 28, 14 x 14, 7 x 7 and 4 x 4 tokens; windows of 7.
    SWIN: (112, {"depths": (1, 1, 2, 1), "embed_dim": 12, "num_heads": (1, 2, 3, 4)}),
    # Blocks 0, 1 | 2 to 5 | 6 to 8 of 16 x 16, 8 x 8 and 4 x 4 patches of 2 x 2.
    "mobilevit_xxs": (256, {}),
    # Blocks 0, 1 | 2, 3 of 8 x 8 and 4 x 4.
    "efficientvit_b0": (128, {}),
}
ONE = {SWIN: ReducedAt(1, 100), "mobilevit_xxs": ReducedAt(1, 64), "efficientvit_b0": ReducedAt(0, 36)}
TWO = {
    SWIN: (ReducedAt(0, 576), ReducedAt(2, 25)),
    "mobilevit_xxs": (ReducedAt(0, 144), ReducedAt(7, 4)),
    "efficientvit_b0": (ReducedAt(1, 36), ReducedAt(3, 4)),
}


def plain(name: str) -> TimmClassifier:
    size, arguments = KINDS[name]
    torch.manual_seed(0)
    arguments = ({"img_size": size} if name == SWIN else {}) | arguments
    model = timm.create_model(name, num_classes=5, **arguments).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return TimmClassifier(model, TimmConfig(name=name, classes=5, image_size=size))


def merged(name: str, *schedule: ReducedAt, variant: Variant = "soft") -> GridReducedViT:
    classifier = plain(name)
    family = grid_family(name, classifier, "ltm")
    assert family is not None
    config = ReducedConfig(base=classifier.config, method="ltm", schedule=schedule, variant=variant)
    return family(config, classifier).eval()


def image(name: str) -> Tensor:
    return torch.randn(2, 3, KINDS[name][0], KINDS[name][0])


@pytest.mark.parametrize("name", KINDS)
def test_merging_nothing_is_the_plain_model_exactly(name: str) -> None:
    everything = merged(name).sites[0].before
    for schedule in [(), (ReducedAt(0, math.prod(everything)),)]:
        model = merged(name, *schedule)
        pixels = image(name)
        with torch.no_grad():
            reduced = model.reduce(pixels, gaps=True)
            assert torch.equal(reduced.logits, plain(name)(pixels))
        assert not model.reducers and reduced.gap is None
        assert reduced.assignment is not None
        assert reduced.assignment.tolist() == [list(range(math.prod(everything)))] * 2
        assert set(model.tokens_per_block) == {math.prod(everything)}


@pytest.mark.parametrize("name", KINDS)
def test_weights_keep_timms_names_and_shapes(name: str) -> None:
    ours, theirs = merged(name, *TWO[name]).backbone.state_dict(), plain(name).model.state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


@pytest.mark.parametrize("variant", ["soft", "hard"])
@pytest.mark.parametrize("name", KINDS)
def test_each_merge_leaves_the_tokens_it_was_given(name: str, variant: Variant) -> None:
    model = merged(name, *TWO[name], variant=variant)
    with torch.no_grad():
        reduced = model.reduce(image(name), gaps=True)
    assert reduced.logits.shape == (2, 5) and reduced.logits.isfinite().all()
    assert set(model.reducers) == {str(at.block) for at in TWO[name]}
    before, after = TWO[name]
    n = math.prod(model.grid)
    expected = [n] * before.block + [before.tokens] * (after.block - before.block)
    expected += [after.tokens] * (len(model.sites) - after.block)
    assert list(model.tokens_per_block) == expected
    assert reduced.assignment is not None and reduced.assignment.shape == (2, n)
    assert reduced.assignment.dtype == torch.int32
    assert 0 <= int(reduced.assignment.min()) and int(reduced.assignment.max()) < after.tokens
    assert (reduced.gap is None) == (variant == "soft"), "a soft mask chooses nothing"
    assert reduced.gap is None or reduced.gap.shape == (2,)
    assert model.reduce(image(name), trace=False).assignment is None


@pytest.mark.parametrize("name", KINDS)
def test_a_fresh_merge_keeps_neighbours_together(name: str) -> None:
    """Through the halving between two merges too: a patch ends where its place in the picture is."""
    model = merged(name, *TWO[name])
    with torch.no_grad():
        assignment = model.reduce(image(name)).assignment
    assert assignment is not None
    rows, columns = model.sites[TWO[name][1].block].after
    cells = assignment[0].reshape(model.grid)
    for r in range(model.grid[0]):
        for c in range(model.grid[1]):
            row, column = divmod(int(cells[r, c]), columns)
            assert abs(row - (r + 0.5) / model.grid[0] * rows) < 2
            assert abs(column - (c + 0.5) / model.grid[1] * columns) < 2


def test_swin_merges_after_attention_and_before_the_mlp() -> None:
    """By a loop of its own over windows, with one window of the whole grid, so that nothing is shifted or padded."""
    model = merged(SWIN, ReducedAt(2, 16))
    pixels = image(SWIN)
    with torch.no_grad():
        x = model.backbone.patch_embed(pixels)
        for layer in model.backbone.layers[:2]:
            x = layer(x)
        x = model.backbone.layers[2].downsample(x)
        block = model.backbone.layers[2].blocks[0]
        tokens = x.flatten(1, 2)
        tokens = tokens + block.attn(block.norm1(tokens))
        mask = model.reducers["2"].mask(tokens)  # type: ignore[operator]
        tokens = mask @ tokens
        tokens = tokens + block.mlp(block.norm2(tokens))
        x = tokens.unflatten(1, (4, 4))
        x = model.backbone.layers[2].blocks[1](x)
        x = model.backbone.layers[3](x)
        expected = model.backbone.head(model.backbone.norm(x))
        torch.testing.assert_close(model(pixels), expected)


def test_swins_window_stays_and_a_grid_within_one_window_is_not_shifted() -> None:
    model = merged(SWIN, ReducedAt(1, 100))
    blocks = [block for layer in model.backbone.layers for block in layer.blocks]
    assert [tuple(block.input_resolution) for block in blocks] == [(28, 28), (14, 14), (5, 5), (5, 5), (3, 3)]
    assert all(block.shift_size == (0, 0) for block in blocks[2:])
    shifted = merged(SWIN, ReducedAt(0, 22 * 22))
    blocks = [block for layer in shifted.backbone.layers for block in layer.blocks]
    assert [block.input_resolution for block in blocks[:3]] == [(28, 28), (11, 11), (6, 6)]


def test_mobilevit_merges_what_it_joins_with_the_same_mask() -> None:
    """By a loop of its own over pixels: whole patches picked, so that their maps can be cut out by hand."""
    name = "mobilevit_xxs"
    model = merged(name, ReducedAt(6, 4))  # the first block of the last stage, 4 x 4 patches to 2 x 2
    picked = [4 * r + c for r, c in ((0, 1), (1, 3), (2, 0), (3, 2))]
    with torch.no_grad():
        model.reducers["6"].score.weight.zero_()  # type: ignore[union-attr, operator]
        model.reducers["6"].position.fill_(-1e4)  # type: ignore[operator]
        for target, source in enumerate(picked):
            model.reducers["6"].position[target, source] = 0  # type: ignore[index]
        x = model.backbone.stem(image(name))
        for stage in model.backbone.stages[:4]:
            x = stage(x)
        x = model.backbone.stages[4][0](x)
        block = model.backbone.stages[4][1]
        inner = block.conv_1x1(block.conv_kxk(x))
        outcome = []
        for a in range(4):  # one pixel of each patch
            tokens = torch.stack(
                [inner[:, :, 2 * r + a // 2, 2 * c + a % 2] for r in range(4) for c in range(4)], dim=1
            )
            part = block.transformer[0]
            tokens = (tokens + part.attn(part.norm1(tokens)))[:, picked]
            tokens = tokens + part.mlp(part.norm2(tokens))
            outcome.append(block.norm(block.transformer[2](block.transformer[1](tokens))))
        folded = torch.zeros(2, inner.shape[1], 4, 4)
        joined = torch.zeros(2, x.shape[1], 4, 4)
        for target, source in enumerate(picked):
            for a in range(4):
                row, column = 2 * (target // 2) + a // 2, 2 * (target % 2) + a % 2
                folded[:, :, row, column] = outcome[a][:, target]
                joined[:, :, row, column] = x[:, :, 2 * (source // 4) + a // 2, 2 * (source % 4) + a % 2]
        made = block.conv_fusion(torch.cat([joined, block.conv_proj(folded)], dim=1))
        ours = model._merging_block(block, x, 6, {})  # type: ignore[operator]
        torch.testing.assert_close(ours, made, atol=1e-4, rtol=1e-4)


def test_efficientvit_merges_between_its_two_modules() -> None:
    name = "efficientvit_b0"
    model, pixels = merged(name, ReducedAt(0, 36)), image("efficientvit_b0")
    with torch.no_grad():
        x = model.backbone.stem(pixels)
        for stage in model.backbone.stages[:2]:
            x = stage(x)
        first, *others = model.backbone.stages[2].blocks
        assert not hasattr(first, "local_module")
        x = others[0].context_module(first(x))
        tokens = x.permute(0, 2, 3, 1).reshape(2, 64, -1)
        mask = model.reducers["0"].mask(tokens)  # type: ignore[operator]
        x = (mask @ tokens).reshape(2, 6, 6, -1).permute(0, 3, 1, 2)
        x = others[0].local_module(x)
        for block in others[1:]:
            x = block(x)
        expected = model.backbone.head(model.backbone.stages[3](x))
        torch.testing.assert_close(model(pixels), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_the_form_for_inference_answers_the_same(name: str) -> None:
    model, pixels = merged(name, *TWO[name]), image(name)
    with torch.no_grad():
        torch.testing.assert_close(model.inference_form()(pixels), model(pixels), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_a_step_of_training_reaches_backbone_and_reducers(name: str) -> None:
    model = merged(name, *TWO[name]).train()
    torch.nn.functional.cross_entropy(model(image(name)), torch.tensor([0, 1])).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.reducers.parameters())


@pytest.mark.parametrize("name", KINDS)
def test_plain_weights_fill_the_backbone_and_leave_the_reducers(name: str) -> None:
    model = merged(name, ONE[name])
    weights = {
        key: torch.rand_like(value.float()).to(value.dtype) for key, value in plain(name).model.state_dict().items()
    }
    own = {key: value.clone() for key, value in model.reducers.state_dict().items()}
    fresh = model.load_plain(weights)
    assert fresh == tuple(f"reducers.{key}" for key in own)
    assert all(torch.equal(model.backbone.state_dict()[key], value) for key, value in weights.items())
    assert all(torch.equal(model.reducers.state_dict()[key], value) for key, value in own.items())


@pytest.mark.parametrize("name", KINDS)
def test_the_default_schedule_is_one_merge_to_three_quarters_of_a_side(name: str) -> None:
    (at,) = timm_schedule(f"ltm/{name}", plain(name), "ltm", None)
    site = merged(name, at).sites[at.block]
    assert site.merges and 0.7 * site.before[0] <= site.after[0] < site.before[0]
    assert timm_schedule(name, plain(name), "ltm", f"{at.block}:{at.tokens}") == (at,)


@pytest.mark.parametrize(
    "name, at, line",
    [
        (SWIN, ReducedAt(5, 4), "a merge at block 5 of 5; blocks count from 0 to 4"),
        (SWIN, ReducedAt(1, 197), "197 tokens after block 1, into which 14 x 14 = 196 go; leave 196 or fewer"),
        (SWIN, ReducedAt(1, 150), "150 tokens after block 1 make no grid .* 14 x 14; give one of: 121, 144, 169"),
        ("mobilevit_xxs", ReducedAt(0, 100), "multiples of 4 for the stages after it; give one of: 16, 64, 144"),
        ("mobilevit_xxs", ReducedAt(2, 25), "multiples of 2 for the stages after it; give one of: 4, 16, 36"),
        ("efficientvit_b0", ReducedAt(0, 65), "leave 64 or fewer"),
    ],
)
def test_a_merge_that_does_not_fit_is_refused_with_what_does(name: str, at: ReducedAt, line: str) -> None:
    with pytest.raises(InputError, match=line):
        merged(name, at)


@pytest.mark.parametrize("method", ["tome", "evit", "dynamicvit"])
def test_another_method_on_a_grid_is_refused(method: Any) -> None:
    with pytest.raises(InputError, match=f"{method} leaves tokens that make no grid.*swin_\\*, mobilevit_\\*"):
        grid_family(SWIN, plain(SWIN), method)


def test_a_backbone_that_carries_nothing_is_refused() -> None:
    with torch.device("meta"):
        model = timm.create_model("tiny_vit_5m_224")
    classifier = TimmClassifier(model, TimmConfig(name="tiny_vit_5m_224", classes=1000, image_size=224))
    with pytest.raises(InputError, match=r"TinyVit does not come apart.*any plain VisionTransformer"):
        timm_schedule("ltm/tiny_vit_5m_224", classifier, "ltm", None)
