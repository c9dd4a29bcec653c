"""The models that can be opened by name, those that ship and those of others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import edgevit
from edgevit.errors import InputError
from edgevit.files import sha256
from edgevit.models import catalog
from edgevit.models.architecture import config_of
from edgevit.models.catalog import CATALOG, CatalogEntry, entry_named
from edgevit.models.checkpoint import Checkpoint, save_checkpoint
from edgevit.models.opening import open_model
from edgevit.models.recursive import RecursiveConfig, RecursiveViT, dense_twin
from edgevit.models.source import source_of
from edgevit.preprocess import Preprocess

PACKAGE = Path(edgevit.__file__).parent
SHIPPED = [entry for entry in CATALOG if entry.weights is not None]
TINY = RecursiveConfig(
    image_size=8, patch_size=4, classes=2, width=4, heads=2, depth=1, recursions=2, capacities=(1.0, 0.5)
)


class Means(nn.Module):
    """Means of the channels, 3 logits at any size but 13."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-1] == 13:
            raise ValueError("13 brings bad luck\nand a second line")
        return self.gain * image.mean(dim=(2, 3))


class Planes(nn.Module):
    """No classifier: answers with a picture."""

    def forward(self, image: Tensor) -> Tensor:
        return image


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog of two small models without weights."""
    entries = (CatalogEntry("tiny", "", TINY, None), CatalogEntry("tiny-dense", "", dense_twin(TINY), None))
    monkeypatch.setattr(catalog, "CATALOG", entries)


@pytest.fixture(autouse=True)
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of somebody's, `zoo_of_others`."""
    module = ModuleType("zoo_of_others")
    vars(module).update(means=Means, planes=Planes, weights=dict, constant=3, recursive=lambda: RecursiveViT(TINY))
    monkeypatch.setitem(sys.modules, "zoo_of_others", module)


def refused(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as refusal:
        call(*arguments, **options)
    line = str(refusal.value)
    assert "\n" not in line
    return line


def saved(path: Path, config: RecursiveConfig) -> Path:
    size = config.image_size
    labels = tuple(f"label {number}" for number in range(config.classes))
    preprocess = Preprocess(height=size, width=size, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    save_checkpoint(path, Checkpoint(RecursiveViT(config), labels, preprocess))
    return path


# --- what ships -------------------------------------------------------------------------------------------------------


def test_names_are_different_and_no_name_is_taken_for_a_function() -> None:
    names = [entry.name for entry in CATALOG]
    assert len(set(names)) == len(names)
    assert not any(":" in name for name in names)


@pytest.mark.parametrize("entry", SHIPPED, ids=lambda entry: entry.name)
def test_the_weights_that_ship_are_those_of_their_entry(entry: CatalogEntry) -> None:
    assert entry.weights is not None and entry.weights.parent == PACKAGE / "weights"
    source = open_model(entry.name, num_classes=entry.config.classes, input_size=entry.config.image_size)
    config = config_of(source.module)
    assert (replace(config, thresholds=None) if isinstance(config, RecursiveConfig) else config) == entry.config
    assert source.fresh == (), "what ships is trained"
    assert not source.module.training
    assert all(parameter.dtype == torch.float32 for parameter in source.module.parameters())
    assert source.checkpoint_sha256 == sha256(entry.weights.read_bytes())
    assert len(source.labels) == entry.config.classes
    assert sum(parameter.numel() for parameter in source.module.parameters()) == entry.parameters


def test_no_weights_lie_in_the_package_that_no_model_uses() -> None:
    assert set((PACKAGE / "weights").iterdir()) == {entry.weights for entry in SHIPPED}


def test_the_steel_models_tell_the_same_classes_in_the_same_order() -> None:
    assert len({open_model(entry.name).labels for entry in SHIPPED}) == 1


def test_the_model_that_adapts_to_the_picture_is_calibrated() -> None:
    module = open_model("steel-adaptive").module
    assert isinstance(module, RecursiveViT)
    assert module.config.thresholds is not None


# --- random weights ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny")
def test_random_weights_are_the_same_each_time_and_leave_torchs_random_state_alone() -> None:
    first = open_model("tiny").module.state_dict()
    torch.manual_seed(99)  # what the caller did must not matter
    state = torch.get_rng_state()
    again = open_model("tiny").module.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(value.any() for name, value in first.items() if name.endswith("bias")), "an optimizer drops zeros"


@pytest.mark.usefixtures("tiny")
def test_a_model_without_weights_takes_any_number_of_classes() -> None:
    source = open_model("tiny", num_classes=5)
    assert source.module(torch.zeros(1, 3, 8, 8)).shape == (1, 5)
    assert source.labels == ("class 0", "class 1", "class 2", "class 3", "class 4")
    assert source.checkpoint_sha256 == ""
    assert (source.preprocess.height, source.preprocess.width) == (8, 8)


# --- a name and a checkpoint ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny")
def test_a_checkpoint_brings_its_classes_thresholds_and_preprocessing(tmp_path: Path) -> None:
    config = replace(TINY, classes=3, thresholds=(0.25,))
    path = saved(tmp_path / "mine.safetensors", config)
    source = open_model("tiny", checkpoint=path)
    assert isinstance(source.module, RecursiveViT)
    assert source.module.config == config
    assert source.labels == ("label 0", "label 1", "label 2")
    assert source.preprocess.mean == (0.1, 0.2, 0.3)
    assert source.checkpoint_sha256 == sha256(path.read_bytes())


@pytest.mark.usefixtures("tiny")
def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "mine.safetensors", TINY)
    assert refused(open_model, "tiny-dense", checkpoint=path) == (
        f"{path}: a checkpoint of another architecture than tiny-dense; give the model it was trained as"
    )


@pytest.mark.usefixtures("tiny")
def test_numbers_that_disagree_with_the_weights_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "mine.safetensors", TINY)
    assert refused(open_model, "tiny", checkpoint=path, num_classes=7) == (
        "--num-classes 7, but the weights of tiny have 2; leave it out or retrain"
    )
    assert refused(open_model, "tiny", checkpoint=path, input_size=16) == (
        "--input-size 16, but tiny was trained at 8; leave it out or retrain"
    )


@pytest.mark.parametrize(
    "name, hint",
    [
        ("steel-recursiv", "did you mean 'steel-recursive'?"),
        ("Steel-Dense", "did you mean 'steel-dense'?"),
        (
            "resnet",
            f"wanted one of: {', '.join(entry.name for entry in CATALOG)}, timm/NAME, tome/NAME, ltm/NAME, "
            "dynamicvit/NAME, evit/NAME, or package.module:function",
        ),
    ],
)
def test_an_unknown_name_is_told_the_nearest(name: str, hint: str) -> None:
    assert refused(open_model, name) == refused(entry_named, name) == f"unknown model '{name}'; {hint}"


# --- models of others -------------------------------------------------------------------------------------------------


def test_a_function_gives_a_model_with_numbered_labels() -> None:
    source = open_model("zoo_of_others:means", input_size=16, num_classes=3)
    assert isinstance(source.module, Means)
    assert not source.module.training
    assert (source.name, source.labels) == ("zoo_of_others:means", ("class 0", "class 1", "class 2"))
    assert (source.preprocess.height, source.preprocess.width) == (16, 16)
    assert source.checkpoint_sha256 == ""


def test_a_functions_model_is_filled_from_plain_weights(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    safetensors.torch.save_file({"gain": torch.tensor(4.0)}, path)
    source = open_model("zoo_of_others:means", checkpoint=path, input_size=16)
    assert source.module.state_dict()["gain"] == 4
    assert source.checkpoint_sha256 == sha256(path.read_bytes())


def test_a_recursive_model_of_others_knows_its_size() -> None:
    assert open_model("zoo_of_others:recursive").preprocess.height == 8
    assert refused(open_model, "zoo_of_others:recursive", input_size=16) == (
        "--input-size 16, but zoo_of_others:recursive takes 8; leave it out"
    )


@pytest.mark.parametrize("name", ["no_such_module:build", "zoo_of_others:nothing", ":build", "zoo_of_others:"])
def test_what_cannot_be_imported_says_so(name: str) -> None:
    line = refused(open_model, name, input_size=16)
    assert line.startswith(f"{name}: cannot be imported (")
    assert line.endswith("wanted package.module:function on the Python path")


@pytest.mark.parametrize("function, kind", [("weights", "dict"), ("constant", "NoneType")])
def test_a_function_must_return_a_module(function: str, kind: str) -> None:
    assert refused(open_model, f"zoo_of_others:{function}", input_size=16) == (
        f"zoo_of_others:{function}: gave {kind}, wanted a function without arguments that returns an nn.Module"
    )


@pytest.mark.parametrize(
    "module, options, line",
    [
        (Means(), {}, "mine: does not say its image size; give --input-size N"),
        (
            Means(),
            {"input_size": 16, "num_classes": 4},
            "--num-classes 4, but mine answers with 3 logits; leave it out",
        ),
        (
            Means(),
            {"input_size": 13},
            "mine: fails on an image of 13 x 13 (13 brings bad luck); give its own --input-size",
        ),
        (
            Planes(),
            {"input_size": 16},
            "mine: its forward must give logits of shape B x C; wrap it in a module that does",
        ),
    ],
)
def test_a_module_that_is_no_classifier_of_that_size_is_refused(
    module: nn.Module, options: dict[str, int], line: str
) -> None:
    assert refused(source_of, "mine", module, **options) == line


@pytest.mark.parametrize("labels", [(), ("a", ""), ("a", "a")])
def test_each_class_needs_a_label_of_its_own(labels: tuple[str, ...]) -> None:
    source = source_of("mine", Means(), input_size=16)
    assert refused(replace, source, labels=labels).endswith("; give each class one of its own")


def test_a_source_holds_together() -> None:
    source = source_of("mine", RecursiveViT(TINY))
    assert refused(replace, source, labels=("a", "b", "c")) == "mine: 3 labels for 2 classes"
    assert refused(replace, source, preprocess=replace(source.preprocess, width=16)) == (
        "mine: preprocessing gives 8 x 16, the model takes 8 x 8"
    )


def test_a_function_that_raises_is_one_line() -> None:
    with pytest.raises(InputError, match="raised when called without arguments") as failure:
        open_model("os.path:join")
    assert "\n" not in str(failure.value)
