from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch

from edgevit.errors import InputError
from edgevit.models import catalog
from edgevit.models.catalog import CatalogEntry
from edgevit.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgevit.models.recursive import RecursiveViT
from edgevit.preprocess import Preprocess
from edgevit.samples import surface
from edgevit.training.run import Trained, train_on_folder

ONE_EPOCH = replace(tiny_run.SETTINGS, epochs=1)


@pytest.fixture(autouse=True)
def tiny_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    token = replace(tiny_run.CONFIG, router="token_choice")
    entries = (CatalogEntry("tiny", "", tiny_run.CONFIG, None), CatalogEntry("tiny-token", "", token, None))
    monkeypatch.setattr(catalog, "CATALOG", entries)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures each of three kinds, to be split."""
    root = tmp_path_factory.mktemp("data")
    for label in ("plain", "red_iron", "surface_scratch"):
        (root / label).mkdir()
        for i in range(8):
            surface(label, i, (40, 32)).save(root / label / f"{i}.png")
    return root


def run(model: str, data: Path, output: Path, **options: Any) -> Trained:
    return train_on_folder(model, data, ONE_EPOCH, output, run_length=2, **options)


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


def saved(path: Path, labels: tuple[str, ...]) -> Checkpoint:
    torch.manual_seed(5)
    model = RecursiveViT(replace(tiny_run.CONFIG, classes=len(labels)))
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
    ],
)
def test_a_refused_run_leaves_no_folder(
    model: str, options: dict[str, Any], line: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refusal:
        run(model, data, tmp_path / "run", **options)
    assert line in str(refusal.value)
    assert not list(tmp_path.iterdir())
