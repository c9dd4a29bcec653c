"""The door to timm's models and reduced ones: checkpoints of the plain model, of the reduced one, and names."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("timm", reason="the models are timm's")

from edgevit.errors import InputError
from edgevit.models.architecture import config_of, parameters_of, plain_weights
from edgevit.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgevit.models.opening import open_model
from edgevit.models.reduced_config import ReducedConfig

NAME = "deit_tiny_patch16_224"


def saved(model: str, path: Path, classes: int = 5) -> Path:
    source = open_model(model, num_classes=classes)
    save_checkpoint(path, Checkpoint(source.module, source.labels, source.preprocess))
    return path


def test_a_plain_checkpoint_fills_the_plain_model_and_reduced_ones(tmp_path: Path) -> None:
    path = saved(f"timm/{NAME}", tmp_path / "plain.safetensors")
    wanted = plain_weights(load_checkpoint(path).model)
    for model, fresh in ((f"timm/{NAME}", 0), (f"tome/{NAME}", 0), (f"ltm/{NAME}", 12)):
        source = open_model(model, checkpoint=path)
        assert len(source.fresh) == fresh
        assert all(name.startswith("reducers.") for name in source.fresh)
        assert len(source.labels) == 5
        state = source.module.state_dict()
        held = {name.rpartition("model.")[2]: value for name, value in state.items() if "model." in name}
        assert held.keys() == wanted.keys()
        assert all((held[name] == value).all() for name, value in wanted.items())


def test_a_reduced_checkpoint_brings_its_schedule_and_refuses_another(tmp_path: Path) -> None:
    source = open_model(f"evit/{NAME}", num_classes=5, schedule="3:60,6:30")
    path = tmp_path / "reduced.safetensors"
    save_checkpoint(path, Checkpoint(source.module, source.labels, source.preprocess))
    again = config_of(open_model(f"evit/{NAME}", checkpoint=path).module)
    assert isinstance(again, ReducedConfig)
    assert [at.tokens for at in again.schedule] == [60, 30]
    assert parameters_of(again) == sum(parameter.numel() for parameter in source.module.parameters())
    with pytest.raises(InputError, match="another architecture"):
        open_model(f"evit/{NAME}", checkpoint=path, schedule="3:60,6:20")
    with pytest.raises(InputError, match="another architecture"):
        open_model(f"tome/{NAME}", checkpoint=path)


@pytest.mark.parametrize(
    "name, said",
    [
        ("timm/deit_smal_patch16_224", "deit_small_patch16_224"),
        ("tome/swin_tiny_patch4_window7_224", "no grid"),
        ("ltm/resnet18", "carries tome, ltm, dynamicvit and evit"),
        ("tomme/deit_tiny_patch16_224", "unknown model"),
        ("ltm/steel-ltm", "reduced already"),
        ("evit/steel-recursive", "tome or ltm"),
    ],
)
def test_a_name_that_cannot_be_opened_is_told_what_can(name: str, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        open_model(name)
    line = str(refusal.value)
    assert "\n" not in line
    assert said in line
