"""Users' weights of a plain timm model, in the layouts in which people keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("timm", reason="the models are timm's")

import torch
from safetensors.torch import save_file
from torch import Tensor

from edgevit.errors import InputError
from edgevit.models.backbone import TimmClassifier, open_backbone
from edgevit.models.backbone_config import TimmConfig
from edgevit.models.reduced_config import ReducedConfig
from edgevit.models.reduced_timm import build_reduced_timm
from edgevit.models.reduction import ReducedAt
from edgevit.models.timm_weights import load_timm_weights

NAME, BASE = "mobilevit_xxs", TimmConfig(name="mobilevit_xxs", classes=5, image_size=256)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Of another model of the same kind."""
    state = open_backbone(NAME, classes=5)[0].model.state_dict()
    return {name: value + 1 if value.is_floating_point() else value for name, value in state.items()}


def plain(classes: int = 5) -> TimmClassifier:
    return open_backbone(NAME, classes=classes)[0]


def has(module: torch.nn.Module, weights: dict[str, Tensor]) -> bool:
    state = module.state_dict()
    return all(torch.equal(state[name], value) for name, value in weights.items())


def test_safetensors_are_read(weights: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "weights.safetensors")
    module = plain()
    loaded = load_timm_weights(module, tmp_path / "weights.safetensors")
    assert has(module.model, weights) and loaded.fresh == () and len(loaded.sha256) == 64


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {"state_dict": {}, "state_dict_ema": state},
    ],
)
def test_what_training_scripts_save_is_read(wrapped: Any, weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(wrapped(weights), tmp_path / "weights.pth")
    module = plain()
    load_timm_weights(module, tmp_path / "weights.pth")
    assert has(module.model, weights)


def test_a_reduced_model_takes_them_and_names_what_stays_fresh(weights: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "weights.safetensors")
    config = ReducedConfig(base=BASE, method="ltm", schedule=(ReducedAt(0, 144),))
    module = build_reduced_timm(config)
    own = {name: value.clone() for name, value in module.state_dict().items() if name.startswith("reducers.")}
    loaded = load_timm_weights(module, tmp_path / "weights.safetensors")
    assert set(loaded.fresh) == set(own) and has(module, own)
    assert has(module, {f"backbone.{name}": value for name, value in weights.items()})


def test_an_older_layout_is_read_as_timm_reads_it(tmp_path: Path) -> None:
    """Swin's first files count the patch merging to the stage before, and hold the masks of the windows."""
    name = "swin_tiny_patch4_window7_224"
    module = open_backbone(name, classes=5, image_size=224)[0]
    state = {key: value + 1 for key, value in module.model.state_dict().items()}
    old = {key.replace("head.fc.", "head."): value for key, value in state.items() if "downsample" not in key}
    for i in range(3):
        for part in ("norm.weight", "norm.bias", "reduction.weight"):
            old[f"layers.{i}.downsample.{part}"] = state[f"layers.{i + 1}.downsample.{part}"]
    old["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    save_file(old, tmp_path / "old.safetensors")
    load_timm_weights(module, tmp_path / "old.safetensors")
    assert has(module.model, state)


def test_a_head_of_another_size_names_the_option(weights: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="weights for 5 classes, the model has 7; give --num-classes 5"):
        load_timm_weights(plain(classes=7), tmp_path / "weights.safetensors")


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save_file({"head.fc.weight": torch.zeros(5, 320)}, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="weights of another model; missing: "):
        load_timm_weights(plain(), tmp_path / "weights.safetensors")


class Payload:
    """What a pickle could bring."""


@pytest.mark.parametrize("content", [b"", b"nothing", "pickle", "no state"])
def test_a_damaged_file_or_one_with_more_than_tensors_is_refused(content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save({"model": Payload()} if content == "pickle" else {"epoch": 3}, path)
    with pytest.raises(InputError, match=r"save the model's state_dict\(\)") as caught:
        load_timm_weights(plain(), path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_module_without_timm_inside_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_timm_weights(plain(), tmp_path / "none.pth")
    with pytest.raises(InputError, match="a Linear has no timm model inside"):
        load_timm_weights(torch.nn.Linear(2, 2), tmp_path / "none.pth")
