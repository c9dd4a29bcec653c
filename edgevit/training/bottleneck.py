"""The information bottleneck of a reduced model: its features say what class a picture is of, and little else.

After LTM (arXiv 2407.15219). B pictures, C classes, F features, A = C clusters of features.

The bottleneck I(input; features) - I(features; class) is bounded above, up to a constant, by a mean over the pictures;
with soft memberships phi_in(b) of the input and phi(a) of the features, and Q(a|y) the mean membership of class y:

    sum over a, b of phi(a) phi_in(b) log phi_in(b)  -  sum over a of phi(a) log Q(a|y).

The memberships sum to 1 over a, so the first term is sum over b of phi_in(b) log phi_in(b), minus the entropy of the
input's clusters: no weight of the model is in it and its gradient is zero. Only the second is left, and needs no
clusters of the input. It pulls the features of a picture towards the clusters that are typical of its class.

Where ours differs from the published code: that finds its clusters by k-means over the whole training set before every
epoch, and Q by another pass; here both are running means over batches. As many clusters as classes is theirs; that a
cluster's centre is the mean direction of a class is ours, because k-means over batches loses clusters that no picture
is nearest to, and where features part by class, k-means finds these very centres.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Bottleneck", "cluster_term", "membership"]

_EPSILON = 1e-6


def membership(features: Tensor, centres: Tensor) -> Tensor:
    """phi: the softmax over clusters of minus the squared distance from the direction of the features.

    Args:
        features: B x F, of any length.
        centres: A x F, of length 1.

    Returns:
        B x A, each row of sum 1.
    """
    direction = functional.normalize(features, dim=-1)
    # Squared, |u - m|^2 = |u|^2 + |m|^2 - 2 u m: no B x A x F of differences.
    distance = direction.square().sum(-1, keepdim=True) + centres.square().sum(-1) - 2 * direction @ centres.T
    return torch.softmax(-distance, dim=-1)


def cluster_term(clusters: Tensor, targets: Tensor, conditional: Tensor) -> Tensor:
    """The mean over pictures of -sum over a of phi(a) log(Q(a|y) + epsilon), a scalar.

    Args:
        clusters: phi, B x A.
        targets: y, B int64.
        conditional: Q, C x A.
    """
    return -(clusters * torch.log(conditional + _EPSILON)[targets]).sum(dim=-1).mean()


class Bottleneck(nn.Module):
    """The cluster term with the running means it needs.

    Both are running means of sums that are linear in the pictures. So the mean of the states of several processes, each
    with its share of a batch, is the state that the whole batch would have led to.

    Args:
        classes: C.
        width: F.
        decay: of the running means, a step.
    """

    directions: Tensor
    joint: Tensor

    def __init__(self, classes: int, width: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("directions", torch.zeros(classes, width))  # of the features, summed by class
        self.register_buffer("joint", torch.zeros(classes, classes))  # memberships, summed by class: C x A

    @property
    def centres(self) -> Tensor:
        """A x F, of length 1; 0, and so equally far from everything, for a class not yet seen."""
        return functional.normalize(self.directions, dim=-1)

    @property
    def conditional(self) -> Tensor:
        """Q, C x A, each row of sum 1; even for a class not yet seen."""
        known = self.joint + _EPSILON
        return known / known.sum(dim=-1, keepdim=True)

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """B x F and B classes to the term, a scalar, by the means of the steps before; then the batch joins them."""
        clusters = membership(features, self.centres)
        term = cluster_term(clusters, targets, self.conditional)
        self._observe(features.detach(), clusters.detach(), targets)
        return term

    @torch.no_grad()
    def _observe(self, features: Tensor, clusters: Tensor, targets: Tensor) -> None:
        of_class = functional.one_hot(targets, len(self.joint)).to(features).T / len(targets)  # C x B
        self.directions.lerp_(of_class @ functional.normalize(features, dim=-1), 1 - self.decay)
        self.joint.lerp_(of_class @ clusters, 1 - self.decay)
