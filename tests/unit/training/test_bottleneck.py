from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgevit.training.bottleneck import Bottleneck, cluster_term, membership

EPSILON = 1e-6


@st.composite
def drawn(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Features B x F, targets B and centres C x F of length 1."""
    batch, width, classes = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(2, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    features = torch.randn(batch, width, generator=generator, dtype=torch.float64) * 5
    targets = torch.randint(0, classes, (batch,), generator=generator)
    centres = torch.randn(classes, width, generator=generator, dtype=torch.float64)
    return features, targets, centres / centres.norm(dim=-1, keepdim=True)


def direction(row: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in row))
    return [value / length for value in row]


def slow_membership(features: Tensor, centres: Tensor) -> list[list[float]]:
    rows = []
    for row in features.tolist():
        unit = direction(row)
        near = [math.exp(-sum((u - m) ** 2 for u, m in zip(unit, centre, strict=True))) for centre in centres.tolist()]
        rows.append([value / sum(near) for value in near])
    return rows


@settings(deadline=None)
@given(drawn())
def test_membership_is_a_softmax_of_squared_distances_on_the_sphere(case: tuple[Tensor, Tensor, Tensor]) -> None:
    features, _, centres = case
    wanted = torch.tensor(slow_membership(features, centres), dtype=torch.float64)
    torch.testing.assert_close(membership(features, centres), wanted)


@settings(deadline=None)
@given(drawn())
def test_the_term_is_what_is_left_of_the_separable_bound(case: tuple[Tensor, Tensor, Tensor]) -> None:
    """The whole bound differs from it by the first sum, which is the same whatever the features are."""
    features, targets, centres = case
    classes = len(centres)
    conditional = torch.softmax(torch.arange(classes**2, dtype=torch.float64).reshape(classes, classes).sin(), dim=-1)
    of_input = torch.softmax(torch.arange(len(features) * 3, dtype=torch.float64).reshape(-1, 3).cos(), dim=-1).tolist()

    def bound(of_features: list[list[float]]) -> float:
        total = 0.0
        for phi, phi_in, label in zip(of_features, of_input, targets.tolist(), strict=True):
            for a, share in enumerate(phi):
                total += sum(share * inside * math.log(inside) for inside in phi_in)
                total -= share * math.log(conditional[label, a] + EPSILON)
        return total / len(of_features)

    ours, shifted = features, features.flip(1) + 1
    whole = [bound(slow_membership(given_features, centres)) for given_features in (ours, shifted)]
    term = [float(cluster_term(membership(f, centres), targets, conditional)) for f in (ours, shifted)]
    assert whole[0] - whole[1] == pytest.approx(term[0] - term[1], abs=1e-9)
    of_entropy = sum(sum(inside * math.log(inside) for inside in phi_in) for phi_in in of_input) / len(of_input)
    assert whole[0] == pytest.approx(of_entropy + term[0], abs=1e-9)


def test_the_means_are_those_of_the_steps_before() -> None:
    torch.manual_seed(0)
    decay, classes, width = 0.75, 3, 4
    bottleneck = Bottleneck(classes, width, decay)
    directions = [[0.0] * width for _ in range(classes)]
    joint = [[0.0] * classes for _ in range(classes)]
    for _ in range(4):
        features, targets = torch.randn(5, width), torch.randint(0, 2, (5,))  # the last class is never seen
        lengths = [math.sqrt(sum(v * v for v in row)) for row in directions]
        centres = [[v / n if n else 0.0 for v in row] for row, n in zip(directions, lengths, strict=True)]
        clusters = slow_membership(features, torch.tensor(centres))
        conditional = [[(v + EPSILON) / (sum(row) + classes * EPSILON) for v in row] for row in joint]
        wanted = 0.0
        for phi, label in zip(clusters, targets.tolist(), strict=True):
            wanted -= sum(share * math.log(q + EPSILON) for share, q in zip(phi, conditional[label], strict=True)) / 5
        assert float(bottleneck(features, targets)) == pytest.approx(wanted, rel=1e-4)
        directions = [[decay * v for v in row] for row in directions]
        joint = [[decay * v for v in row] for row in joint]
        for row, phi, label in zip(features.tolist(), clusters, targets.tolist(), strict=True):
            for f, value in enumerate(direction(row)):
                directions[label][f] += (1 - decay) * value / 5
            for a, share in enumerate(phi):
                joint[label][a] += (1 - decay) * share / 5
    torch.testing.assert_close(bottleneck.directions, torch.tensor(directions))
    torch.testing.assert_close(bottleneck.joint, torch.tensor(joint))


def test_the_first_batch_is_as_good_in_one_class_as_in_another() -> None:
    bottleneck = Bottleneck(3, 4)
    term = bottleneck(torch.randn(6, 4), torch.arange(6) % 3)
    assert float(term) == pytest.approx(math.log(3), rel=1e-4)


def test_features_are_pulled_to_where_their_class_is() -> None:
    torch.manual_seed(1)
    places = torch.nn.functional.normalize(torch.randn(3, 8), dim=-1)
    bottleneck = Bottleneck(3, 8)
    for _ in range(50):
        targets = torch.randint(0, 3, (16,))
        bottleneck(places[targets] + 0.1 * torch.randn(16, 8), targets)
    features = torch.randn(12, 8, requires_grad=True)
    targets = torch.arange(12) % 3
    before = float(bottleneck(features, targets).detach())
    for _ in range(200):
        (gradient,) = torch.autograd.grad(bottleneck(features, targets), features)
        assert gradient.abs().sum(dim=1).gt(0).all()
        features = (features - 2 * gradient).detach().requires_grad_(True)
    assert float(bottleneck(features, targets).detach()) < before
    assert (features.detach() @ places.T).argmax(dim=1).tolist() == targets.tolist()


def test_the_mean_of_two_processes_states_is_that_of_the_whole_batch() -> None:
    torch.manual_seed(2)
    whole = Bottleneck(2, 4)
    whole(torch.randn(8, 4), torch.arange(8) % 2)
    halves = [Bottleneck(2, 4), Bottleneck(2, 4)]
    for half in halves:
        half.load_state_dict(whole.state_dict())
    features, targets = torch.randn(8, 4), torch.tensor([0, 0, 0, 1, 1, 1, 0, 1])
    whole(features, targets)
    for rank, half in enumerate(halves):
        half(features[rank::2], targets[rank::2])
    for name, value in whole.state_dict().items():
        torch.testing.assert_close((halves[0].state_dict()[name] + halves[1].state_dict()[name]) / 2, value)
