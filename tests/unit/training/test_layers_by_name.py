from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from edgevit.errors import InputError
from edgevit.models.recursive import RecursiveConfig, RecursiveViT, dense_twin
from edgevit.training.layers_by_name import layers_of, stem_of

CONFIG = RecursiveConfig(
    image_size=16, patch_size=8, classes=2, width=8, heads=2, depth=2, recursions=2, capacities=(1.0, 0.5), stem="conv",
    sharing="middle_cycle", per_step_norm=True,
)  # fmt: skip


def names_of(config: RecursiveConfig) -> list[str]:
    with torch.device("meta"):
        return list(RecursiveViT(config).state_dict())


def wanted(name: str) -> int | None:
    """The layer in the model of `CONFIG`: stem, first block, two shared ones, last block, head."""
    top, _, rest = name.partition(".")
    if top == "blocks":
        return 2 + int(rest[0])
    return {"stem": 0, "cls": 0, "position": 0, "first": 1, "last": 4, "norm": 5, "head": 5, "routers": None}[top]


def test_layers_of_a_recursive_model_go_in_the_order_of_the_computation() -> None:
    layers = layers_of(names_of(CONFIG))
    assert list(layers) == names_of(CONFIG)
    assert layers == {name: wanted(name) for name in layers}


def test_layers_of_a_reduced_model_are_those_of_its_backbone() -> None:
    dense = dense_twin(replace(CONFIG, sharing="cycle"))
    plain = layers_of(names_of(dense))
    assert max(layer for layer in plain.values() if layer is not None) == dense.depth + 1
    reduced = layers_of([f"backbone.model.{name}" for name in plain] + ["reducers.1.queries"])
    assert reduced == {f"backbone.model.{name}": layer for name, layer in plain.items()} | {"reducers.1.queries": None}


@pytest.mark.parametrize(
    "names, layers",
    [
        # As timm names them: a plain ViT, Swin, MobileViT, the EfficientViT of MIT.
        (["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.norm1.weight", "blocks.10.mlp.fc1.weight",
          "norm.weight", "head.weight"], [0, 0, 0, 1, 2, 3, 3]),
        (["patch_embed.proj.weight", "layers.0.blocks.0.norm1.weight", "layers.0.blocks.1.norm1.weight",
          "layers.1.downsample.norm.weight", "layers.1.blocks.0.attn.qkv.weight", "norm.weight", "head.fc.weight"],
         [0, 1, 2, 3, 4, 5, 5]),
        (["stem.conv.weight", "stages.0.0.conv1_1x1.conv.weight", "stages.2.1.transformer.0.norm1.weight",
          "stages.2.1.transformer.1.norm1.weight", "final_conv.conv.weight", "head.fc.weight"], [0, 1, 2, 2, 3, 3]),
        (["stem.in_conv.conv.weight", "stem.res0.main.conv.weight", "stages.0.blocks.0.main.conv.weight",
          "stages.0.blocks.1.main.conv.weight", "head.in_conv.conv.weight"], [0, 0, 1, 2, 3]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "model.", "backbone.model."])
def test_layers_are_told_by_the_names_of_many_libraries(names: list[str], layers: list[int], prefix: str) -> None:
    assert list(layers_of(prefix + name for name in names).values()) == layers


def test_the_stem_is_all_that_the_first_block_takes() -> None:
    stem = stem_of(names_of(CONFIG))
    assert {name.partition(".")[0] for name in stem} == {"cls", "position", "stem"}
    assert "stem.1.running_mean" in stem


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(InputError, match="the model names no blocks to tell layers by; leave layer decay"):
        layers_of(["fc.weight", "mlp.0.weight"])
