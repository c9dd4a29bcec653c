"""Margins of the reference against slow loops over every token."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from edgevit.export.golden import verification_inputs
from edgevit.export.reference import golden_samples
from edgevit.models.deploy import routing_spec
from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.models.routing import route_mask
from edgevit.models.source import ModelSource
from edgevit.preprocess import Preprocess


def slow_margins(scores: np.ndarray, candidates: list[int], chosen: set[int], threshold: float | None) -> list[float]:
    """Margins of one image at one step of expert choice."""
    spread = max(scores) - min(scores)
    margins = [float("inf")] * len(scores)
    for i in candidates:
        if threshold is not None:
            decided = threshold
        elif i in chosen:
            decided = max((scores[j] for j in candidates if j not in chosen), default=-np.inf)
        else:
            decided = min(scores[j] for j in chosen)
        margins[i] = abs(scores[i] - decided) / spread
    return margins


@pytest.mark.parametrize("selection", ["top-k", "threshold"])
def test_margins_are_distances_to_the_score_that_decided(tiny_source: ModelSource, selection: str) -> None:
    model = tiny_source.module
    assert isinstance(model, RecursiveViT)
    names, images = verification_inputs(tiny_source.preprocess)
    routing = routing_spec(model, "mask", selection)  # type: ignore[arg-type]
    golden = golden_samples(model, routing, names, images)
    with torch.inference_mode():
        outcome = route_mask(model, torch.from_numpy(images), selection)  # type: ignore[arg-type]
    assert golden.margin is not None
    assert golden.depth is not None
    for step, choice in enumerate(outcome.choices):
        threshold = model.config.thresholds[step] if selection == "threshold" else None  # type: ignore[index]
        assert choice.candidates is not None
        for image in range(len(images)):
            candidates = torch.nonzero(choice.candidates[image]).flatten().tolist()
            chosen = set(torch.nonzero(choice.chosen[image]).flatten().tolist())
            slow = slow_margins(choice.logits[image].numpy(), candidates, chosen, threshold)
            np.testing.assert_allclose(golden.margin[image, step], slow, rtol=1e-4)
            assert chosen == set(np.flatnonzero(golden.depth[image] > step + 1).tolist())


def test_margins_of_token_choice_compare_going_on_with_stopping() -> None:
    config = RecursiveConfig(
        image_size=16, patch_size=8, classes=2, width=16, heads=2, depth=1, recursions=3, router="token_choice",
        capacities=(1.0, 0.5, 0.25),
    )  # fmt: skip
    torch.manual_seed(0)
    model = RecursiveViT(config).eval()
    torch.nn.init.normal_(model.routers[0].weight)
    images = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    golden = golden_samples(model, routing_spec(model, "mask"), ("a", "b"), images)
    with torch.inference_mode():
        choice = route_mask(model, torch.from_numpy(images)).choices[0]
    assert golden.margin is not None
    for image in range(2):
        scores = choice.logits[image].numpy()
        for patch in range(4):
            expected = abs(max(scores[patch][1:]) - scores[patch][0]) / (scores.max() - scores.min())
            assert golden.margin[image, 0, patch] == pytest.approx(expected, rel=1e-4)


def test_a_step_that_takes_every_candidate_decides_nothing(tiny_source: ModelSource) -> None:
    model = tiny_source.module
    assert isinstance(model, RecursiveViT)
    full = RecursiveViT(dataclasses.replace(model.config, capacities=(1.0, 1.0, 0.25)))
    full.load_state_dict(model.state_dict())
    names, images = verification_inputs(tiny_source.preprocess)
    golden = golden_samples(full.eval(), routing_spec(full, "topk"), names, images)
    assert golden.margin is not None
    assert np.isinf(golden.margin[:, 0]).all()
    assert np.isfinite(golden.margin[:, 1]).all()


def test_inputs_are_sixteen_or_more_and_exact_in_half_precision() -> None:
    preprocess = Preprocess(height=24, width=40, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    names, images = verification_inputs(preprocess)
    assert len(names) == len(images) == len(set(names)) >= 16
    assert images.shape[1:] == (3, 24, 40)
    np.testing.assert_array_equal(images, images.astype(np.float16).astype(np.float32))
    by_name = dict(zip(names, images, strict=True))
    assert not by_name["zeros"].any()
    # full white, as a camera gives it, in the middle of each channel
    np.testing.assert_allclose(by_name["white"][:, 5, 5], (1 - np.array([0.4, 0.5, 0.6])) / [0.2, 0.3, 0.4], rtol=1e-3)
    assert by_name["noise of scale 10"].std() == pytest.approx(10, rel=0.1)
    again = verification_inputs(preprocess)[1]
    np.testing.assert_array_equal(images, again)
