from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.models.recursive import RecursiveConfig, RecursiveViT, dense_twin
from edgevit.models.routing import reference

TINY = RecursiveConfig(
    image_size=8, patch_size=2, classes=3, width=8, heads=2, depth=2, recursions=3, capacities=(1.0, 0.5, 0.25),
)  # fmt: skip


@pytest.mark.parametrize(
    "change, line",
    [
        ({"image_size": 0}, "image_size is 0; give 1 or more"),
        ({"patch_size": -2}, "patch_size is -2; give 1 or more"),
        ({"classes": 0}, "classes is 0; give 1 or more"),
        ({"width": 0}, "width is 0; give 1 or more"),
        ({"heads": 0}, "heads is 0; give 1 or more"),
        ({"depth": 0}, "depth is 0; give 1 or more"),
        ({"recursions": 0}, "recursions is 0; give 1 or more"),
        ({"image_size": 9}, "image size 9 is not divisible by the patch size 2; try 8 or 10"),
        ({"patch_size": 16}, "image size 8 is not divisible by the patch size 16; try 16 or 32"),
        ({"heads": 3}, "width 8 is not divisible by 3 heads; change one of them"),
        ({"mlp_ratio": 0.0}, "mlp_ratio is 0.0; give a number above 0, such as 4"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio is nan; give a number above 0, such as 4"),
        (
            {"image_size": 12, "patch_size": 3, "stem": "conv"},
            "a conv stem halves the picture again and again, which does not lead to patches of 3; "
            "give a patch size that is a power of two, or the patch stem",
        ),
        ({"sharing": "middle"}, "sharing is 'middle'; give one of: cycle, middle_cycle"),
        ({"router": "tokens"}, "router is 'tokens'; give one of: none, expert_choice, token_choice"),
        ({"stem": "convolution"}, "stem is 'convolution'; give one of: patch, conv"),
        ({"pool": "max"}, "pool is 'max'; give one of: cls, mean, cls+mean"),
        (
            {"recursions": 1, "capacities": (1.0,)},
            "router 'expert_choice' with one recursion has nothing to choose; give 2, or router 'none'",
        ),
        ({"recursions": 4}, "3 capacities for 4 recursions; give one a step"),
        ({"capacities": (0.5, 0.5, 0.25)}, "the first capacity is 0.5; the first step takes every patch, so give 1"),
        (
            {"capacities": (1.0, 0.25, 0.5)},
            "capacity 0.5 at step 3 after 0.25: selection is nested, so a capacity is above 0 and never grows; "
            "give a falling schedule such as 1, 1/4, 1/8, 1/16",
        ),
        (
            {"capacities": (1.0, 0.0, 0.0)},
            "capacity 0 at step 2 after 1: selection is nested, so a capacity is above 0 and never grows; "
            "give a falling schedule such as 1, 1/4, 1/8, 1/16",
        ),
        (
            {"capacities": (1.0, float("nan"), 0.5)},
            "capacity nan at step 2 after 1: selection is nested, so a capacity is above 0 and never grows; "
            "give a falling schedule such as 1, 1/4, 1/8, 1/16",
        ),
        ({"thresholds": (0.0,)}, "1 thresholds for 3 recursions; give 2, one for each step after the first"),
        (
            {"thresholds": (0.0, 0.0), "router": "token_choice"},
            "thresholds are for router 'expert_choice', not 'token_choice'; leave them out",
        ),
        (
            {"thresholds": (0.0, float("inf"))},
            "the thresholds (0.0, inf) are not all finite; calibrate them again",
        ),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_in_one_line(change: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refusal:
        replace(TINY, **change)
    assert str(refusal.value) == line


def test_a_model_without_a_router_has_no_schedule_to_check() -> None:
    config = RecursiveConfig(router="none", recursions=2)
    assert len(config.capacities) == 4


schedules = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5).map(
    lambda shares: (1.0, *sorted(shares, reverse=True))
)


@given(schedules, st.integers(1, 14))
def test_the_budget_is_the_capacity_rounded_down_but_at_least_one_patch(shares: tuple[float, ...], side: int) -> None:
    config = RecursiveConfig(image_size=2 * side, patch_size=2, recursions=len(shares), capacities=shares)
    assert config.patches == side * side
    assert config.budget[0] == config.patches
    assert list(config.budget) == sorted(config.budget, reverse=True)
    for share, count in zip(shares, config.budget, strict=True):
        assert count == 1 or count <= share * config.patches + 1e-5
        assert count > share * config.patches - 1 - 1e-5


def test_a_budget_does_not_lose_a_patch_to_binary_fractions() -> None:
    # 0.29 * 100 is 28.999999999999996 in double precision.
    config = RecursiveConfig(image_size=20, patch_size=2, recursions=3, capacities=(1.0, 0.57, 0.29))
    assert config.budget == (100, 57, 29)


def parameters(config: RecursiveConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in RecursiveViT(config).parameters())


def block(width: int, hidden: int, norms: int = 1) -> int:
    """Parameters of a transformer block: norms, q k v, projection, MLP."""
    return (
        norms * 2 * 2 * width
        + (3 * width * width + 3 * width)
        + (width * width + width)
        + (width * hidden + hidden)
        + (hidden * width + width)
    )


# TINY: 16 patches and CLS at width 8; patches of 2 x 2 x 3 numbers; final norm; head of 3 classes on CLS.
OUTSIDE = (12 * 8 + 8) + 8 + 17 * 8 + 2 * 8 + (8 * 3 + 3)


@pytest.mark.parametrize(
    "change, wanted",
    [
        ({"router": "none"}, OUTSIDE + 2 * block(8, 32)),
        ({"router": "none", "recursions": 7}, OUTSIDE + 2 * block(8, 32)),
        ({"router": "none", "sharing": "middle_cycle"}, OUTSIDE + 4 * block(8, 32)),
        ({"router": "none", "per_step_norm": True}, OUTSIDE + 2 * block(8, 32, norms=3)),
        (
            {"router": "none", "per_step_norm": True, "sharing": "middle_cycle"},
            OUTSIDE + 2 * block(8, 32, norms=3) + 2 * block(8, 32),
        ),
        ({"router": "none", "mlp_ratio": 2.0}, OUTSIDE + 2 * block(8, 16)),
        ({}, OUTSIDE + 2 * block(8, 32) + 2 * (8 + 1)),
        ({"router": "token_choice"}, OUTSIDE + 2 * block(8, 32) + (8 * 3 + 3)),
        ({"pool": "mean", "router": "none"}, OUTSIDE + 2 * block(8, 32)),
        ({"pool": "cls+mean", "router": "none"}, OUTSIDE + 2 * block(8, 32) + 8 * 3),
    ],
)
def test_parameters_are_what_one_counts_by_hand(change: dict[str, Any], wanted: int) -> None:
    assert parameters(replace(TINY, **change)) == wanted


def test_the_dense_twin_of_the_default_is_deit_s() -> None:
    # 22,050,664: Touvron et al. 2021 (arXiv 2012.12877, table 1: 22 M), counted by timm for deit_small_patch16_224.
    assert parameters(dense_twin(RecursiveConfig())) == 22_050_664


@pytest.mark.parametrize("sharing, blocks", [("cycle", 6), ("middle_cycle", 8)])
def test_the_dense_twin_has_a_block_for_every_pass_of_the_recursive_model(sharing: Any, blocks: int) -> None:
    config = replace(TINY, sharing=sharing, per_step_norm=True, thresholds=(0.0, 0.0), pool="cls+mean", stem="conv")
    twin = dense_twin(config)
    assert (twin.depth, twin.recursions, twin.sharing, twin.router) == (blocks, 1, "cycle", "none")
    assert (twin.width, twin.heads, twin.stem, twin.pool) == (8, 2, "conv", "cls+mean")
    assert dense_twin(twin) == twin
    assert passes(config) == blocks
    assert passes(twin) == blocks


def passes(config: RecursiveConfig) -> int:
    """How many times any block runs for one picture."""
    model, calls = RecursiveViT(config).eval(), []
    for name, module in model.named_modules():
        if type(module).__name__ == "Block":
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    model(torch.zeros(1, 3, 8, 8))
    return len(calls)


def test_the_outer_blocks_of_a_middle_cycle_see_all_tokens() -> None:
    model = RecursiveViT(replace(TINY, sharing="middle_cycle")).eval()
    lengths: dict[str, list[int]] = {}
    for name in ("first", "blocks.0", "last"):
        seen = lengths.setdefault(name, [])
        model.get_submodule(name).register_forward_hook(
            lambda _module, inputs, _out, seen=seen: seen.append(inputs[0].shape[1])
        )
    model(torch.zeros(1, 3, 8, 8))
    assert lengths == {"first": [17], "blocks.0": [17, 9, 5], "last": [17]}


@pytest.mark.parametrize(
    "change, reads",
    [
        ({}, False),
        ({"pool": "mean"}, True),
        ({"pool": "cls+mean"}, True),
        ({"sharing": "middle_cycle"}, True),
    ],
)
def test_the_last_patches_are_read_unless_cls_alone_is(change: dict[str, Any], reads: bool) -> None:
    model = RecursiveViT(replace(TINY, router="none", **change)).eval()
    x = model.step(model.embed(torch.randn(1, 3, 8, 8)), 0)
    changed = model.readout(x[:, :1], x[:, 1:] + torch.randn(1, 16, 8))
    assert model.reads_patches == reads
    assert torch.equal(changed, model.readout(x[:, :1], x[:, 1:])) == (not reads)


@pytest.mark.parametrize("pool, width", [("cls", 8), ("mean", 8), ("cls+mean", 16)])
def test_the_head_reads_what_the_pool_says(pool: Any, width: int) -> None:
    model = RecursiveViT(replace(TINY, router="none", pool=pool)).eval()
    cls, patches = torch.randn(2, 1, 8), torch.randn(2, 16, 8)
    parts = {"cls": [cls[:, 0]], "mean": [patches], "cls+mean": [cls[:, 0], patches]}[pool]
    normed = [model.norm(part) for part in parts]
    wanted = torch.cat([part.mean(dim=1) if part.ndim == 3 else part for part in normed], dim=-1)
    assert wanted.shape == (2, width)
    torch.testing.assert_close(model.readout(cls, patches), model.head(wanted))


def test_a_patch_stands_in_the_sequence_by_its_row_and_column() -> None:
    model = RecursiveViT(replace(TINY, router="none")).eval()
    image = torch.zeros(1, 3, 8, 8)
    dark = model.embed(image)
    image[0, :, 2:4, 6:8] = 1.0  # row 1, column 3 of a grid of 4 x 4
    moved = (model.embed(image) != dark).any(dim=-1)[0]
    assert moved.nonzero().flatten().tolist() == [1 + 1 * 4 + 3]


@pytest.mark.parametrize("router", ["none", "expert_choice", "token_choice"])
def test_forward_gives_the_logits_a_model_is_trained_with(router: Any) -> None:
    model, image = RecursiveViT(replace(TINY, router=router)).eval(), torch.randn(2, 3, 8, 8)
    assert torch.equal(model(image), reference(model, image).logits)


def test_the_weights_follow_from_the_random_state() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([parameter.flatten() for parameter in RecursiveViT(TINY).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
