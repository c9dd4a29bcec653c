from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.models.dense_parts import DenseParts
from edgevit.models.dynamicvit import KeepPredictor, LearnedSelection
from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.models.reduced import ReducedViT, reduced_model
from edgevit.models.reduced_config import ReducedConfig
from edgevit.models.reduction import Attended, ReducedAt, Stream
from edgevit.models.tokens import listed, lowest_index_top_k

BASE = RecursiveConfig(
    image_size=16, patch_size=4, classes=3, width=16, heads=2, depth=3, recursions=1, router="none", capacities=(1.0,),
    pool="cls+mean",
)  # fmt: skip
CONFIG = ReducedConfig(base=BASE, method="dynamicvit", schedule=(ReducedAt(1, 9), ReducedAt(2, 5)))


def judged(selection: LearnedSelection, x: Tensor, keep: Tensor | None = None) -> Tensor:
    log_probability: Tensor = selection.predictor(x, keep)
    return log_probability


def test_the_predictor_gives_log_probabilities() -> None:
    out = KeepPredictor(8)(torch.randn(2, 5, 8), None)
    assert out.shape == (2, 5, 2)
    torch.testing.assert_close(out.exp().sum(dim=-1), torch.ones(2, 5))


def test_the_predictor_sees_the_mean_of_those_kept_alone() -> None:
    predictor, x = KeepPredictor(8), torch.randn(2, 6, 8)
    keep = torch.tensor([[1.0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 1, 1]])
    rows = torch.tensor([[0, 2, 3], [1, 4, 5]])
    gathered = torch.stack([x[b, rows[b]] for b in range(2)])
    masked = predictor(x, keep)
    torch.testing.assert_close(torch.stack([masked[b, rows[b]] for b in range(2)]), predictor(gathered, None))
    assert torch.isfinite(predictor(x, torch.zeros(2, 6))).all()


def test_in_eval_mode_a_fixed_number_goes_on_in_order() -> None:
    selection = LearnedSelection(3, 8).eval()
    x = torch.randn(2, 7, 8)
    origin = torch.tensor([[0, 1, 2, 3, 4, 5], [5, -1, 4, 3, -1, 0]])
    out = selection(Stream(x, 1, origin), None)
    index = lowest_index_top_k(judged(selection, x[:, 1:])[..., 0], 3)
    assert out.keep is None
    assert out.origin is not None
    for b in range(2):
        kept = index[b].tolist()
        assert torch.equal(out.x[b], x[b, [0, *(1 + i for i in kept)]])
        assert out.origin[b].tolist() == [kept.index(i) if i in kept else -1 for i in origin[b].tolist()]


def test_in_training_no_token_goes_and_the_mask_never_grows() -> None:
    selection = LearnedSelection(3, 8).train()
    x, before = torch.randn(4, 40, 8), (torch.rand(4, 40) < 0.5).float()
    out = selection(Stream(x, 0, None, None, before), None)
    assert torch.equal(out.x, x)
    assert out.keep is not None
    assert set(out.keep.flatten().tolist()) <= {0.0, 1.0}
    assert (out.keep <= before).all()
    assert 0 < out.keep.sum() < before.sum()


def test_the_predictor_learns_through_the_mask() -> None:
    torch.manual_seed(0)
    model = reduced_model(CONFIG).train()
    assert isinstance(model, ReducedViT)
    outcome = model.reduce(torch.randn(4, 3, 16, 16))
    assert [share.shape for share in outcome.keep_shares] == [(4,), (4,)]
    outcome.logits.square().sum().backward()
    for block in ("1", "2"):
        assert all(weight.grad is not None for weight in model.reducers[block].parameters())
        assert any((weight.grad != 0).any() for weight in model.reducers[block].parameters())


class Decided(LearnedSelection):
    """Draws in training what it takes in eval mode."""

    so_far: Tensor | None = None

    def forward(self, stream: Stream, attended: Attended | None) -> Stream:
        self.so_far = stream.keep
        return super().forward(stream, attended)

    def draw(self, judged: Tensor) -> Tensor:
        score = judged[..., 0]
        if self.so_far is not None:
            score = torch.where(self.so_far > 0, score, -1e9)
        return listed(lowest_index_top_k(score, self.tokens), score.shape[1]).float()


@pytest.mark.parametrize("seed", range(5))
def test_masked_training_answers_as_gathered_inference_where_they_keep_the_same(seed: int) -> None:
    torch.manual_seed(seed)
    reducers = nn.ModuleDict({"1": Decided(9, 16), "2": Decided(5, 16)})
    model = ReducedViT(CONFIG, DenseParts(RecursiveViT(BASE)), reducers)
    image = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        trained, answered = model.train().reduce(image), model.eval().reduce(image)
    assert [share.tolist() for share in trained.keep_shares] == [[9 / 16] * 3, [5 / 16] * 3]
    torch.testing.assert_close(trained.logits, answered.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(trained.features, answered.features, atol=1e-5, rtol=0)
    assert answered.assignment is not None
    assert [(row >= 0).sum().item() for row in answered.assignment] == [5, 5, 5]


def test_the_gap_is_a_share_of_the_spread() -> None:
    selection, x = LearnedSelection(3, 8).eval(), torch.randn(2, 7, 8)
    score = judged(selection, x[:, 1:])[..., 0]
    ordered = score.sort(dim=1, descending=True).values
    wanted = (ordered[:, 2] - ordered[:, 3]) / (ordered[:, 0] - ordered[:, -1])
    torch.testing.assert_close(selection.gap(Stream(x, 1, None), None), wanted)


def test_a_width_that_cannot_be_quartered_is_refused() -> None:
    with pytest.raises(InputError, match="halves the width twice; 6 is no multiple of 4"):
        KeepPredictor(6)


def test_a_mean_over_no_patch_at_all_is_a_number() -> None:
    parts = DenseParts(RecursiveViT(BASE))
    stream = Stream(torch.randn(2, 17, 16), 1, None, keep=torch.zeros(2, 16))
    features, logits = parts.read(stream)
    assert torch.isfinite(features).all() and torch.isfinite(logits).all()
