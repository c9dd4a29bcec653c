from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_run
import torch

from edgevit.errors import InputError
from edgevit.metrics import evaluate
from edgevit.models.recursive import RecursiveViT
from edgevit.models.routing import reference, route_mask
from edgevit.training.evaluate import evaluate_model, run_all

IMAGES = tiny_run.pictures(5, 0)


@pytest.fixture(scope="module")
def model() -> RecursiveViT:
    torch.manual_seed(0)
    return RecursiveViT(tiny_run.CONFIG)


def test_an_evaluation_is_of_the_models_answers(model: RecursiveViT) -> None:
    model.eval()
    logits = model(torch.from_numpy(tiny_run.PREPROCESS.batch(list(IMAGES.pixels)))).detach().double()
    wanted = evaluate(IMAGES.targets, torch.softmax(logits, dim=-1).numpy(), IMAGES.labels)
    assert evaluate_model(model, IMAGES, tiny_run.PREPROCESS) == wanted


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_the_size_of_the_batches_does_not_matter(model: RecursiveViT, batch: int) -> None:
    outcomes = run_all(model, IMAGES, tiny_run.PREPROCESS, reference, batch)
    assert [len(outcome.logits) for outcome in outcomes] == [min(batch, 5 - i) for i in range(0, 5, batch)]
    together = run_all(model, IMAGES, tiny_run.PREPROCESS, reference)[0]
    assert torch.equal(torch.cat([outcome.depth for outcome in outcomes]), together.depth)
    torch.testing.assert_close(torch.cat([outcome.logits for outcome in outcomes]), together.logits)


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_left_in_the_mode_it_was_in(model: RecursiveViT, training: bool) -> None:
    model.train(training)
    statistics = model.state_dict()["stem.1.running_mean"].clone()
    evaluate_model(model, IMAGES, tiny_run.PREPROCESS)
    with pytest.raises(InputError, match="thresholds"):
        evaluate_model(model, IMAGES, tiny_run.PREPROCESS, lambda m, x: route_mask(m, x, "threshold"))
    assert model.training is training
    assert torch.equal(model.state_dict()["stem.1.running_mean"], statistics)


def test_pictures_of_other_classes_are_refused(model: RecursiveViT) -> None:
    three = replace(IMAGES, labels=("a", "b", "c"), targets=np.zeros(5, np.int64))
    with pytest.raises(InputError, match="n x 3, one column a label"):
        evaluate_model(model, three, tiny_run.PREPROCESS)
