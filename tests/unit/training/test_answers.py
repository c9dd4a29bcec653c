from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_run
import torch
from PIL import Image

from edgevit.errors import InputError
from edgevit.models.checkpoint import Checkpoint, save_checkpoint
from edgevit.models.recursive import RecursiveConfig, RecursiveViT, dense_twin
from edgevit.models.routing import reference, route_mask
from edgevit.training.answers import answers_of

CALIBRATED = replace(tiny_run.CONFIG, thresholds=(0.01, -0.01))


def saved(config: RecursiveConfig, path: Path) -> RecursiveViT:
    torch.manual_seed(0)
    model = RecursiveViT(config).eval()
    save_checkpoint(path, Checkpoint(model, tiny_run.KINDS, tiny_run.PREPROCESS))
    return model


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.png" for i in range(35)]  # more than a batch
    for path, pixels in zip(paths, np.resize(tiny_run.pictures(5, 0).pixels, (35, 32, 32, 3)), strict=True):
        Image.fromarray(pixels).save(path)
    return paths


@pytest.mark.parametrize("selection", [None, "top-k", "threshold"])
def test_a_checkpoint_answers_picture_by_picture(selection: Any, pictures: list[Path], tmp_path: Path) -> None:
    model = saved(CALIBRATED, tmp_path / "model.safetensors")
    labels, answer_all = answers_of(tmp_path / "model.safetensors", selection)
    answers = list(answer_all(pictures))
    assert labels == tiny_run.KINDS
    assert len(answers) == 35
    for path, (probabilities, counts) in zip(pictures, answers, strict=True):
        image = torch.from_numpy(tiny_run.PREPROCESS(path))[None]
        wanted = route_mask(model, image, selection) if selection else reference(model, image)
        assert probabilities == pytest.approx(torch.softmax(wanted.logits[0].double(), 0).tolist(), abs=1e-5)
        assert counts == wanted.counts[0].tolist()


def test_without_a_router_there_are_no_counts(pictures: list[Path], tmp_path: Path) -> None:
    saved(dense_twin(tiny_run.CONFIG), tmp_path / "model.safetensors")
    _, answer_all = answers_of(tmp_path / "model.safetensors")
    assert [counts for _, counts in answer_all(pictures[:2])] == [[], []]


@pytest.mark.parametrize(
    "config, selection, line",
    [
        (
            replace(tiny_run.CONFIG, router="token_choice"),
            "top-k",
            "--selection is for an expert-choice router and this has token_choice; leave it out",
        ),
        (
            dense_twin(tiny_run.CONFIG),
            "threshold",
            "--selection is for an expert-choice router and this has none; leave it out",
        ),
        (
            tiny_run.CONFIG,
            "threshold",
            "has no thresholds; calibrate it with edgevit train --resume --calibrate",
        ),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(
    config: RecursiveConfig, selection: Any, line: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    saved(config, path)
    with pytest.raises(InputError) as refusal:
        answers_of(path, selection)
    assert str(refusal.value) == f"{path}: {line}"
