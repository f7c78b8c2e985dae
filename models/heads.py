"""Heads: map the features of a network to one output per class."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CosineHead(nn.Module):
    """Cosines (N, C) of the angles between features and class directions: LDAM's classifier (Cao et al. 2019).

    ``weight`` is (num_features, num_classes), normalised by column when used; there is no bias.
    ``in_features`` is num_features, as of a linear head.
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.in_features = num_features
        self.weight = nn.Parameter(F.normalize(torch.empty(num_features, num_classes).uniform_(-1, 1), dim=0))

    def forward(self, features: Tensor) -> Tensor:
        """(N, F) features to (N, C) cosines of their angles to the weights of the classes."""
        # In float32: cosines are scaled up to logits, and rounding errors of a shorter type would be too.
        with torch.autocast(features.device.type, enabled=False):
            return F.normalize(features.to(self.weight.dtype), dim=1) @ F.normalize(self.weight, dim=0)


class ScaledLinearHead(nn.Linear):
    """A linear head whose outputs (N, C) are multiplied by a learned scale per class (Kang et al. 2020, section 4.2).

    ``scales`` is (num_classes,) beside the ``weight`` and ``bias`` of a linear head.
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__(num_features, num_classes)
        self.scales = nn.Parameter(torch.ones(num_classes))

    def forward(self, input: Tensor) -> Tensor:
        """(N, F) features to (N, C) logits, each class's times its scale."""
        return self.scales * super().forward(input)


class ReorderedHead(nn.Module):
    """The outputs of another head in another order: output i is its output ``order[i]``."""

    def __init__(self, head: nn.Module, order: Sequence[int]) -> None:
        super().__init__()
        self.head = head
        self.in_features = head.in_features
        self.order: Tensor
        self.register_buffer("order", torch.tensor(order), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, F) features to (N, C) outputs."""
        return self.head(features)[:, self.order]


def linear_head(num_features: int, num_classes: int) -> nn.Linear:
    """Weights initialised as those of the convolutions."""
    head = nn.Linear(num_features, num_classes)
    nn.init.kaiming_normal_(head.weight)
    return head


def projection_head(num_features: int, dimension: int) -> nn.Sequential:
    """Two layers to the space in which views are compared (Chen et al. 2020); named as in MoCo v2's checkpoints."""
    return nn.Sequential(nn.Linear(num_features, num_features), nn.ReLU(), nn.Linear(num_features, dimension))


HEADS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": linear_head,
    "cosine": CosineHead,
    "scaled": ScaledLinearHead,
    "projection": projection_head,
}
"""By name; each takes the number of features and of outputs."""


def new_head(head: str, num_features: int, num_outputs: int) -> nn.Module:
    """A freshly initialised head; head: a key of HEADS."""
    return HEADS[head](num_features, num_outputs)
