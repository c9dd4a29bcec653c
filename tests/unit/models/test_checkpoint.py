from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from edgevit.errors import InputError
from edgevit.files import sha256
from edgevit.models.architecture import seeded
from edgevit.models.checkpoint import Checkpoint, holds_checkpoint, load_checkpoint, save_checkpoint
from edgevit.models.fitting import load_weights
from edgevit.models.recursive import RecursiveConfig, RecursiveViT, dense_twin
from edgevit.models.reduced_config import ReducedConfig
from edgevit.models.reduction import ReducedAt
from edgevit.models.tensor_file import pack, unpack
from edgevit.preprocess import Preprocess
from edgevit.spec import Method

CONFIG = RecursiveConfig(
    image_size=8, patch_size=4, classes=2, width=4, heads=2, depth=1, recursions=2, capacities=(1.0, 0.5),
    thresholds=(-0.3,), stem="conv", per_step_norm=True,
)  # fmt: skip
LABELS = ("rött järn", 'a "quoted" label')
PREPROCESS = Preprocess(height=8, width=8, mean=(0.1, 0.2, 1 / 3), std=(1.0, 0.5, 0.25), resize="crop")


def checkpoint(config: RecursiveConfig = CONFIG) -> Checkpoint:
    torch.manual_seed(0)
    model = RecursiveViT(config)
    model(torch.randn(4, 3, 8, 8))  # statistics for the batch norms
    return Checkpoint(model, LABELS, PREPROCESS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    save_checkpoint(path, checkpoint())
    return path


def refused(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(InputError) as refusal:
        load_checkpoint(path)
    line = str(refusal.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line.removeprefix(f"{path}: ")


def header_of(data: bytes) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header


# --- what is written is read ------------------------------------------------------------------------------------------


def test_what_is_read_is_what_was_written(saved: Path) -> None:
    before, after = checkpoint(), load_checkpoint(saved)
    assert after.model.config == CONFIG
    assert (after.labels, after.preprocess) == (LABELS, PREPROCESS)
    assert after.sha256 == sha256(saved.read_bytes())
    assert not after.model.training
    weights = after.model.state_dict()
    assert list(weights) == list(before.model.state_dict())
    for name, value in before.model.state_dict().items():
        assert torch.equal(weights[name], value)
        assert weights[name].dtype == value.dtype
    image = torch.randn(2, 3, 8, 8)
    assert torch.equal(after.model(image), before.model.eval()(image))


def test_a_loaded_model_can_be_trained_on(saved: Path) -> None:
    model = load_checkpoint(saved).model.train()
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_half_precision_halves_the_file_and_is_read_back_as_single(saved: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, checkpoint(), dtype=torch.float16)
    weights = load_checkpoint(half).model.state_dict()
    for name, value in checkpoint().model.state_dict().items():
        wanted = value.half().float() if value.is_floating_point() else value
        assert torch.equal(weights[name], wanted)
        assert weights[name].dtype == value.dtype
    assert len(tensor_bytes(half)) < 0.51 * len(tensor_bytes(saved))


def tensor_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


def test_everything_needed_to_use_the_file_stands_in_its_metadata(saved: Path) -> None:
    metadata = header_of(saved.read_bytes())["__metadata__"]
    assert metadata["format"] == "edgevit.checkpoint/1"
    assert json.loads(metadata["config"])["width"] == 4
    assert json.loads(metadata["config"])["thresholds"] == [-0.3]
    assert json.loads(metadata["labels"]) == list(LABELS)
    assert json.loads(metadata["preprocess"])["resize"] == "crop"


def test_the_same_checkpoint_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    save_checkpoint(again, load_checkpoint(saved))
    assert again.read_bytes() == saved.read_bytes()


def test_reading_leaves_the_random_state_alone(saved: Path) -> None:
    before = torch.get_rng_state()
    load_checkpoint(saved)
    assert torch.equal(torch.get_rng_state(), before)


# --- what cannot be written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, dtype, reason",
    [
        (1e6, torch.float16, "head.bias has values too large for torch.float16; store it as torch.float32"),
        (
            float("nan"),
            torch.float32,
            "head.bias is not finite: the training diverged; train again with a lower learning rate",
        ),
    ],
)
def test_weights_that_cannot_be_kept_are_refused_and_the_old_file_stays(
    value: float, dtype: torch.dtype, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")
    bad = checkpoint()
    nn.init.constant_(bad.model.head.bias, value)
    with pytest.raises(InputError) as refusal:
        save_checkpoint(path, bad, dtype)
    assert str(refusal.value) == reason
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("model.safetensors", b"old")]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"labels": ("one",)}, "1 labels for 2 classes; give one a class"),
        ({"labels": ("one", "one")}, "the labels one, one are not all different; give each class its own"),
        (
            {"preprocess": replace(PREPROCESS, width=16)},
            "preprocessing to 8 x 16 for a model of 8 x 8; give both one size",
        ),
    ],
)
def test_a_checkpoint_holds_together(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError) as refusal:
        replace(checkpoint(), **change)
    assert str(refusal.value) == reason


# --- what is not read -------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "none") == "cannot be read (No such file or directory); wanted a .safetensors file"
    assert refused(tmp_path) == "cannot be read (Is a directory); wanted a .safetensors file"


@pytest.mark.parametrize("share", [0, 0.0001, 0.001, 0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_refused(share: float, saved: Path, tmp_path: Path) -> None:
    data, cut = saved.read_bytes(), tmp_path / "cut"
    cut.write_bytes(data[: int(share * len(data))])
    assert refused(cut).startswith("truncated, damaged or no safetensors (")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_is_never_opened(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps({"head.weight": [1.0]}, protocol=protocol))
    assert refused(path).startswith("a pickle, which can run code when opened; wanted .safetensors: ")


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_never_opened(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(nn.Linear(2, 2).state_dict(), path, _use_new_zipfile_serialization=zipped)
    assert refused(path).startswith("a pickle, which can run code when opened; wanted .safetensors: ")


@pytest.mark.parametrize("start", [b"\x80\x02", b"PK"])
def test_a_header_whose_length_looks_like_a_pickle_is_no_pickle(start: bytes) -> None:
    # The first bytes of a safetensors file are the length of its header: 640 and 19280 are the bytes of both formats.
    length, shortest = int.from_bytes(start, "little"), pack({"x": torch.ones(2)}, {"note": ""})
    data = pack({"x": torch.ones(2)}, {"note": "n" * (length - int.from_bytes(shortest[:8], "little"))})
    assert data[:2] == start
    assert unpack(data, "file")[0]["x"].tolist() == [1.0, 1.0]


def with_metadata(metadata: object, path: Path) -> Path:
    header = json.dumps({"__metadata__": metadata}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return path


@pytest.mark.parametrize("metadata", [{"x": 1}, {}, None])
def test_a_file_with_other_metadata_holds_no_checkpoint(metadata: object, tmp_path: Path) -> None:
    path = with_metadata(metadata, tmp_path / "other.safetensors")
    assert not holds_checkpoint(path)
    refused(path)


@pytest.mark.parametrize("metadata", [5, "text", [1]])
def test_a_header_whose_metadata_has_no_names_is_one_line(metadata: object, tmp_path: Path) -> None:
    path = with_metadata(metadata, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="truncated, damaged or no safetensors"):
        holds_checkpoint(path)
    refused(path)


def test_a_pickle_by_the_name_of_a_checkpoint_is_told_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "pickle.safetensors"
    torch.save({"x": torch.ones(1)}, path)
    with pytest.raises(InputError, match="a pickle, which can run code when opened"):
        holds_checkpoint(path)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + bytes(100), b"{}", b"not a model", bytes(64)])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert refused(path).startswith("truncated, damaged or no safetensors (")


def test_plain_weights_are_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    safetensors.torch.save_file(checkpoint().model.state_dict(), path)
    assert refused(path) == (
        "no edgevit checkpoint (format 'none', wanted 'edgevit.checkpoint/1'); "
        "give one that edgevit train wrote; weights alone are taken for timm's models and package.module:function"
    )


def rewritten(path: Path, tmp_path: Path, **changes: str | None) -> Path:
    """The checkpoint with parts of its metadata replaced or (None) left out, and a digest that fits again."""
    tensors, metadata = unpack(path.read_bytes(), "saved")
    changed = {key: value for key, value in {**metadata, **changes}.items() if value is not None}
    other = tmp_path / "rewritten.safetensors"
    other.write_bytes(pack(tensors, changed))
    return other


@pytest.mark.parametrize(
    "changes, reason",
    [
        (
            {"format": "edgevit.checkpoint/2"},
            "no edgevit checkpoint (format 'edgevit.checkpoint/2', wanted 'edgevit.checkpoint/1'); "
            "give one that edgevit train wrote; weights alone are taken for timm's models and package.module:function",
        ),
        ({"labels": '["one"]'}, "1 labels for 2 classes; give one a class"),
        ({"labels": '["a", "b", "c"]'}, "3 labels for 2 classes; give one a class"),
        (
            {"labels": None},
            "metadata are config, format, preprocess; wanted config, format, labels, preprocess; "
            "get a whole copy of it",
        ),
        (
            {"note": "x"},
            "metadata are config, format, labels, note, preprocess; wanted config, format, labels, preprocess; "
            "get a whole copy of it",
        ),
    ],
)
def test_metadata_of_another_model_are_refused(
    changes: dict[str, str | None], reason: str, saved: Path, tmp_path: Path
) -> None:
    assert refused(rewritten(saved, tmp_path, **changes)) == reason


@pytest.mark.parametrize("part", ["config", "labels", "preprocess"])
@pytest.mark.parametrize("text", ["", "[", "null", "{}", '{"width": "4"}'])
def test_metadata_that_are_not_what_they_should_be_are_named(part: str, text: str, saved: Path, tmp_path: Path) -> None:
    assert refused(rewritten(saved, tmp_path, **{part: text})).startswith(f"{part}: ")


def test_a_config_of_absurd_numbers_takes_no_memory(saved: Path, tmp_path: Path) -> None:
    config = json.loads(unpack(saved.read_bytes(), "saved")[1]["config"])
    absurd = rewritten(saved, tmp_path, config=json.dumps({**config, "width": 2**24, "classes": 2**20}))
    assert "the model wants (" in refused(absurd)


@pytest.mark.parametrize("method", ["ltm", "tome", "dynamicvit", "evit"])
def test_a_reduced_model_of_absurd_numbers_takes_no_memory_either(method: Method, tmp_path: Path) -> None:
    plain = dense_twin(CONFIG)
    config = ReducedConfig(base=plain, method=method, schedule=(ReducedAt(1, 3),))
    path = tmp_path / "reduced.safetensors"
    model = seeded(config)
    save_checkpoint(path, Checkpoint(model, ("a", "b"), PREPROCESS))
    back = load_checkpoint(path).model
    image = torch.rand(2, 3, config.image_size, config.image_size)
    assert torch.equal(back(image), model(image))
    stored = json.loads(unpack(path.read_bytes(), "saved")[1]["config"])
    stored["base"] |= {"width": 2**24, "heads": 1, "classes": 2**20}
    assert "the model wants (" in refused(rewritten(path, tmp_path, config=json.dumps(stored), labels='["a", "b"]'))


# --- weights of another model -----------------------------------------------------------------------------------------


def test_weights_of_another_shape_are_named(saved: Path) -> None:
    with pytest.raises(InputError) as refusal:
        load_weights(RecursiveViT(replace(CONFIG, classes=3)), saved)
    assert str(refusal.value) == (
        f"{saved}: head.weight has shape (2, 4), the model wants (3, 4); "
        "give the checkpoint of this model, or the model of this checkpoint"
    )


def test_missing_and_extra_weights_are_all_listed(saved: Path) -> None:
    other = RecursiveViT(replace(CONFIG, router="token_choice", thresholds=None, sharing="cycle", per_step_norm=False))
    extra = [f"blocks.0.norm{n}.1.{kind}" for n in (1, 2) for kind in ("bias", "weight")]
    with pytest.raises(InputError) as refusal:
        load_weights(other, saved)
    assert f"missing: none; extra: {', '.join(extra)}; give" in str(refusal.value)

    with pytest.raises(InputError) as refusal:
        load_weights(nn.Sequential(nn.Linear(1, 1)), saved)
    assert "missing: 0.bias, 0.weight; extra: blocks.0.attention.out.bias, " in str(refusal.value)


def test_whole_numbers_are_not_taken_for_weights(tmp_path: Path) -> None:
    path = tmp_path / "whole.safetensors"
    safetensors.torch.save_file({"weight": torch.ones(1, 1, dtype=torch.int32), "bias": torch.ones(1)}, path)
    with pytest.raises(InputError, match=r"weight is torch.int32, the model wants torch.float32"):
        load_weights(nn.Linear(1, 1), path)


def test_a_refused_file_leaves_the_module_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"weight": torch.ones(1, 1), "bias": torch.ones(2)}, path)
    module = nn.Linear(1, 1)
    before = [parameter.clone() for parameter in module.parameters()]
    with pytest.raises(InputError):
        load_weights(module, path)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_plain_weights_of_any_writer_fill_a_module(tmp_path: Path) -> None:
    path, source = tmp_path / "plain.safetensors", nn.Linear(3, 2)
    safetensors.torch.save_file({name: value.bfloat16() for name, value in source.state_dict().items()}, path)
    module = nn.Linear(3, 2)
    assert load_weights(module, path) == sha256(path.read_bytes())
    assert torch.equal(module.weight, source.weight.bfloat16().float())


# --- any damage -------------------------------------------------------------------------------------------------------


@given(st.data())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_anywhere_is_found(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(saved.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    place = data.draw(st.integers(0, header - 1) | st.integers(header, len(content) - 1), label="byte")
    content[place] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content)
    refused(damaged)


@given(st.binary(max_size=200))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(content)
    refused(path)
