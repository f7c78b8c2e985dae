"""Losses for long-tailed classification, one value a sample.

Every loss maps logits (N, C) and targets (N,) to (N,) values without class
weights or reduction; the loop weights and averages them in one place.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from conf.schema import SupervisedOptions

LossFunction = Callable[[Tensor, Tensor], Tensor]

LDAM_SCALE = 30.0


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="none")


def focal_loss(logits: Tensor, targets: Tensor, *, gamma: float) -> Tensor:
    """(1 - p)^gamma * CE with p the probability of the target (Lin et al. 2017, eq. 4, without alpha)."""
    ce = cross_entropy(logits, targets)  # (N,)
    return (1 - torch.exp(-ce)) ** gamma * ce


def ldam_margins(class_counts: Sequence[int], *, max_margin: float) -> Tensor:
    """(C,) margins proportional to n_c^(-1/4), the largest being max_margin (Cao et al. 2019, eq. 13)."""
    raw = torch.tensor(class_counts, dtype=torch.float64) ** -0.25
    return (raw * (max_margin / raw.max())).float()


def ldam_loss(logits: Tensor, targets: Tensor, *, margins: Tensor) -> Tensor:
    """CE after the target's logit is lowered by its class's margin (Cao et al. 2019, eq. 10).

    logits: scaled cosines, LDAM_SCALE * cos; the margin is in units of the cosine.
    """
    lowered = logits - F.one_hot(targets, logits.shape[1]) * (LDAM_SCALE * margins[targets])[:, None]
    return cross_entropy(lowered, targets)


def log_priors(class_counts: Sequence[int]) -> Tensor:
    """(C,) logarithms of the classes' shares of the training images; minus infinity for a class without any."""
    counts = torch.tensor(class_counts, dtype=torch.float64)
    return torch.log(counts / counts.sum()).float()


def logit_adjusted_loss(logits: Tensor, targets: Tensor, *, adjustment: Tensor) -> Tensor:
    """CE after the logits are raised by adjustment (C,): tau * log prior (Menon et al. 2021, eq. 10).

    With tau = 1 it is the balanced softmax, -log(n_y e^z_y / sum_j n_j e^z_j) (Ren et al. 2020, eq. 4):
    counts and shares differ by a factor that cancels.
    """
    return cross_entropy(logits + adjustment, targets)


def build_loss(options: SupervisedOptions, class_counts: Sequence[int], device: torch.device) -> LossFunction:
    """The loss of --loss_type and its parameters for training counts (C,)."""

    def adjusted(tau: float) -> LossFunction:
        return partial(logit_adjusted_loss, adjustment=tau * log_priors(class_counts).to(device))

    def ldam() -> LossFunction:
        return partial(ldam_loss, margins=ldam_margins(class_counts, max_margin=options.ldam_max_margin).to(device))

    builders: dict[str, Callable[[], LossFunction]] = {
        "CE": lambda: cross_entropy,
        "Focal": lambda: partial(focal_loss, gamma=options.focal_gamma),
        "LDAM": ldam,
        "BalancedSoftmax": lambda: adjusted(1.0),
        "LogitAdjusted": lambda: adjusted(options.tau),
    }
    return builders[options.loss_type]()


def head_of(loss_type: str) -> str:
    """The head (models/heads.py) that the loss was made for."""
    return "cosine" if loss_type == "LDAM" else "linear"


def logit_scale_of(head: str) -> float:
    """What the head's output is multiplied with to be logits: cosines need a temperature, linear outputs do not."""
    return LDAM_SCALE if head == "cosine" else 1.0
