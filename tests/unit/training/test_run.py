from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch
from torch import Tensor

from edgevit.errors import InputError
from edgevit.models import catalog, opening
from edgevit.models.catalog import CatalogEntry
from edgevit.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgevit.models.recursive import RecursiveConfig, RecursiveViT, dense_twin
from edgevit.models.reduced_config import ReducedConfig
from edgevit.models.reduction import ReducedAt
from edgevit.preprocess import Preprocess
from edgevit.samples import surface
from edgevit.training.answers import answers_of
from edgevit.training.run import Trained, train_on_folder

ONE_EPOCH = replace(tiny_run.SETTINGS, epochs=1)
FROZEN = replace(ONE_EPOCH, freeze_stem=True)
KINDS = ("plain", "red_iron", "surface_scratch")


@pytest.fixture(autouse=True)
def tiny_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    token = replace(tiny_run.CONFIG, router="token_choice")
    entries = (
        CatalogEntry("tiny", "", tiny_run.CONFIG, None),
        CatalogEntry("tiny-token", "", token, None),
        CatalogEntry("tiny-dense", "", dense_twin(tiny_run.CONFIG), None),
    )
    for module in (catalog, opening):
        monkeypatch.setattr(module, "CATALOG", entries)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures each of three kinds, to be split."""
    root = tmp_path_factory.mktemp("data")
    for label in KINDS:
        (root / label).mkdir()
        for i in range(8):
            surface(label, i, (40, 32)).save(root / label / f"{i}.png")
    return root


def run(model: str, data: Path, output: Path, **options: Any) -> Trained:
    return train_on_folder(model, data, options.pop("settings", ONE_EPOCH), output, run_length=2, **options)


def test_a_folder_becomes_a_checkpoint_with_its_classes_and_statistics(data: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    trained = run("tiny", data, tmp_path / "run", report=lambda share, _: shares.append(share))
    kept = load_checkpoint(trained.checkpoint)
    assert kept.labels == trained.evaluation.labels == ("plain", "red_iron", "surface_scratch")
    assert kept.model.config == replace(tiny_run.CONFIG, classes=3)
    assert (kept.preprocess.height, kept.preprocess.width) == (32, 32)
    assert 0 < kept.preprocess.std[0] < 0.2, "of the pictures, which are grey"
    assert trained.evaluation.images == 6  # one run of two of each class
    assert trained.thresholds is None
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_thresholds_are_calibrated_on_request_and_kept(data: Path, tmp_path: Path) -> None:
    trained = run("tiny", data, tmp_path / "run", calibrate=True)
    assert trained.thresholds is not None
    assert load_checkpoint(trained.checkpoint).model.config.thresholds == trained.thresholds
    plain = run("tiny", data, tmp_path / "plain").checkpoint
    weights = load_checkpoint(trained.checkpoint).model.state_dict()
    for name, value in load_checkpoint(plain).model.state_dict().items():
        assert torch.equal(weights[name], value)


def test_thresholds_stand_in_the_metrics_and_outlive_a_resumption(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    thresholds = run("tiny", data, output, calibrate=True).thresholds
    assert thresholds is not None
    before = {file.name: file.read_bytes() for file in output.iterdir()}
    assert json.loads(before["metrics.json"])["config"]["thresholds"] == list(thresholds)
    for calibrate in (False, True):
        run("tiny", data, output, resume=True, calibrate=calibrate)
        assert {file.name: file.read_bytes() for file in output.iterdir()} == before


def saved(path: Path, labels: tuple[str, ...], config: RecursiveConfig = tiny_run.CONFIG) -> Checkpoint:
    torch.manual_seed(5)
    model = RecursiveViT(replace(config, classes=len(labels)))
    preprocess = Preprocess(height=32, width=32, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    kept = Checkpoint(model, labels, preprocess)
    save_checkpoint(path, kept)
    return kept


@pytest.mark.parametrize("labels, same_head", [(("plain", "red_iron", "surface_scratch"), True), (("a", "b"), False)])
def test_a_run_starts_from_a_checkpoint_and_its_preprocessing(
    labels: tuple[str, ...], same_head: bool, data: Path, tmp_path: Path
) -> None:
    initial = saved(tmp_path / "initial.safetensors", labels)
    hardly = replace(ONE_EPOCH, learning_rate=1e-12)
    state = torch.get_rng_state()
    trained = train_on_folder(
        "tiny", data, hardly, tmp_path / "run", initial=tmp_path / "initial.safetensors", run_length=2
    )
    assert torch.equal(torch.get_rng_state(), state)
    kept = load_checkpoint(trained.checkpoint)
    assert kept.preprocess == initial.preprocess
    before, after = initial.model.state_dict(), kept.model.state_dict()
    torch.testing.assert_close(after["position"], before["position"], atol=1e-6, rtol=0)
    head = before["head.weight"].shape == after["head.weight"].shape and torch.allclose(
        before["head.weight"], after["head.weight"], atol=1e-6
    )
    assert head is same_head


def near(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Names of the weights that are in both and hardly moved; the statistics of batch norms move on."""
    return {
        name
        for name, value in before.items()
        if value.shape == after[name].shape and torch.allclose(value.float(), after[name].float(), atol=1e-6)
    }


@pytest.mark.parametrize("labels, same_head", [(KINDS, True), (("a", "b", "c"), False), (("a", "b"), False)])
def test_a_reduced_model_starts_from_the_plain_one_and_says_what_is_new(
    labels: tuple[str, ...], same_head: bool, data: Path, tmp_path: Path
) -> None:
    initial = saved(tmp_path / "plain.safetensors", labels, dense_twin(tiny_run.CONFIG))
    trained = train_on_folder(
        "ltm/tiny-dense", data, replace(ONE_EPOCH, learning_rate=1e-12), tmp_path / "run",
        initial=tmp_path / "plain.safetensors", schedule="1:9", run_length=2,
    )  # fmt: skip
    model = load_checkpoint(trained.checkpoint).model
    config = model.config
    assert isinstance(config, ReducedConfig)
    assert (config.method, config.schedule) == ("ltm", (ReducedAt(1, 9),))
    heads = {"backbone.model.head.weight", "backbone.model.head.bias"}
    reducers = {name for name in model.state_dict() if name.startswith("reducers.1.")}
    assert reducers
    assert set(trained.fresh) == (reducers if same_head else reducers | heads)
    before = {f"backbone.model.{name}": value for name, value in initial.model.state_dict().items()}
    kept = near(before, model.state_dict())
    assert {"backbone.model.position", "backbone.model.blocks.2.attention.qkv.weight"} <= kept
    assert ("backbone.model.head.weight" in kept) is same_head

    # From the reduced one all weights come, and its schedule too.
    again = train_on_folder(
        "ltm/tiny-dense", data, ONE_EPOCH, tmp_path / "again", initial=trained.checkpoint, run_length=2
    )
    assert again.fresh == ()
    assert load_checkpoint(again.checkpoint).model.config == config


def test_a_stem_is_frozen_and_named(data: Path, tmp_path: Path) -> None:
    initial = saved(tmp_path / "plain.safetensors", KINDS, dense_twin(tiny_run.CONFIG))
    trained = train_on_folder(
        "tome/tiny-dense", data, replace(ONE_EPOCH, freeze_stem=True, learning_rate=0.1), tmp_path / "run",
        initial=tmp_path / "plain.safetensors", schedule="2", run_length=2,
    )  # fmt: skip
    before = {f"backbone.model.{name}": value for name, value in initial.model.state_dict().items()}
    after = load_checkpoint(trained.checkpoint).model.state_dict()
    assert trained.fresh == (), "what merges without learning brings no weights"
    assert {"backbone.model.cls", "backbone.model.position", "backbone.model.stem.0.weight"} <= set(trained.frozen)
    assert {name for name in before if torch.equal(before[name], after[name])} == set(trained.frozen)


def test_other_capacities_become_the_models(data: Path, tmp_path: Path) -> None:
    trained = run("tiny", data, tmp_path / "run", capacities=(1.0, 0.25, 0.125))
    assert load_checkpoint(trained.checkpoint).model.config.capacities == (1.0, 0.25, 0.125)


def test_a_shared_budget_trains_other_weights(data: Path, tmp_path: Path) -> None:
    shared = run("tiny", data, tmp_path / "shared", settings=replace(ONE_EPOCH, shared_budget=True)).checkpoint
    alone = run("tiny", data, tmp_path / "alone").checkpoint
    ours, theirs = (load_checkpoint(path).model.state_dict() for path in (shared, alone))
    assert not all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("model", ["tiny", "tiny-dense", "evit/tiny-dense", "ltm/tiny-dense"])
def test_every_kind_of_checkpoint_is_judged_alike(model: str, data: Path, tmp_path: Path) -> None:
    trained = run(model, data, tmp_path / "run")
    labels, answer_all = answers_of(trained.checkpoint)
    assert labels == KINDS
    pictures = sorted(data.glob("*/0.png"))
    kept = load_checkpoint(trained.checkpoint)
    for path, (probabilities, counts) in zip(pictures, answer_all(pictures), strict=True):
        logits = kept.model(torch.from_numpy(kept.preprocess(path))[None]).detach()
        assert probabilities == pytest.approx(torch.softmax(logits[0].double(), 0).tolist(), abs=1e-5)
        assert len(counts) == (3 if model == "tiny" else 0)
    if model != "tiny":
        with pytest.raises(InputError, match="--selection is for an expert-choice router and this has none"):
            answers_of(trained.checkpoint, "top-k")


def test_a_folder_that_holds_a_run_is_refused_before_any_picture_is_read(data: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_bytes(b"{}")
    with pytest.raises(InputError, match="holds a training run; go on with --resume, or choose another --output"):
        run("tiny", tmp_path / "no pictures", tmp_path)


@pytest.mark.parametrize(
    "model, options, line",
    [
        ("tony", {}, "unknown model 'tony'; did you mean 'tiny'?"),
        ("tiny", {"resume": True}, "nothing to resume; start the run without --resume"),
        ("tiny-token", {"calibrate": True}, "tiny-token has no expert-choice router and so no thresholds"),
        ("ltm/tiny-dense", {"calibrate": True}, "ltm/tiny-dense has no expert-choice router and so no thresholds"),
        ("tiny-dense", {"schedule": "0.7"}, "--schedule for tiny-dense, which reduces no tokens"),
        ("evit/tiny-dense", {"schedule": "7:3"}, "block 7"),
        ("tiny-dense", {"capacities": (1.0, 0.5, 0.25)}, "tiny-dense has no router; leave --capacities out"),
        ("tiny", {"capacities": (1.0, 0.5)}, "capacities"),
        ("tiny-dense", {"settings": FROZEN}, "--freeze-stem would keep a random stem for good; give weights"),
    ],
)
def test_a_refused_run_leaves_no_folder(
    model: str, options: dict[str, Any], line: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refusal:
        run(model, data, tmp_path / "run", **options)
    assert line in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_weights_of_another_architecture_are_refused(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    saved(path, KINDS, replace(dense_twin(tiny_run.CONFIG), depth=5))
    with pytest.raises(InputError) as refusal:
        run("ltm/tiny-dense", data, tmp_path / "run", initial=path)
    assert str(refusal.value) == (
        f"{path}: a checkpoint of another architecture than ltm/tiny-dense; give the model it was trained as"
    )
    assert not (tmp_path / "run").exists()
