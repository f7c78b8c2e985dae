"""Losses for long-tailed classification, one value a sample.

Every loss maps logits (N, C) and targets to (N,) values without class weights
or reduction; the loop weights and averages them in one place. Targets are (N,)
classes, or (N, C) probabilities of them: then a value is the mean of the loss
over the classes, each as likely as its probability says.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail.conf.options.training import SupervisedOptions

LossFunction = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="none")


def focal_loss(logits: Tensor, targets: Tensor, *, gamma: float) -> Tensor:
    """(1 - p)^gamma * CE with p the probability of the target (Lin et al. 2017, eq. 4, without alpha)."""
    log_p = logits.log_softmax(dim=1)  # (N, C)
    # Of a power below 1 the slope at 0 is infinite.
    wrong = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    return _expected(wrong**gamma * -log_p, targets)


def _expected(losses: Tensor, targets: Tensor) -> Tensor:
    """(N,) of losses (N, C) by what the target were: that of the target, or their mean by its probabilities."""
    if targets.dim() == 1:
        return losses.gather(1, targets[:, None]).squeeze(1)
    return (targets * losses).sum(dim=1)


def hard_targets(targets: Tensor) -> Tensor:
    """(N,) classes of targets: themselves, or the most probable class of each row of (N, C) probabilities."""
    return targets if targets.dim() == 1 else targets.argmax(dim=1)


def ldam_margins(class_counts: Sequence[int], *, max_margin: float) -> Tensor:
    """(C,) margins proportional to n_c^(-1/4), the largest being max_margin (Cao et al. 2019, eq. 13)."""
    raw = torch.tensor(class_counts, dtype=torch.float64) ** -0.25
    return (raw * (max_margin / raw.max())).float()


def ldam_loss(logits: Tensor, targets: Tensor, *, margins: Tensor) -> Tensor:
    """CE after the target's logit is lowered by its class's margin (Cao et al. 2019, eq. 10).

    margins: (C,) in units of the logits: the scale of the cosines times margins between these
    """
    # CE is log(1 + e^(lse of the others - own logit)).
    return _expected(F.softplus(_others(logits) - logits + margins), targets)


def _others(logits: Tensor) -> Tensor:
    """(N, C) logarithm of the summed exponentials of all logits (N, C) but the class's own."""
    top = torch.arange(logits.shape[1], device=logits.device) == logits.argmax(dim=1, keepdim=True)  # (N, C)
    # The others of the largest are summed without it: their share may be too small to be left by a subtraction.
    of_the_top = logits.masked_fill(top, -torch.inf).logsumexp(dim=1, keepdim=True)  # (N, 1)
    p = logits.softmax(dim=1).masked_fill(top, 0)  # (N, C), at most 1/2
    return torch.where(top, of_the_top, logits.logsumexp(dim=1, keepdim=True) + torch.log1p(-p))


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
        margins = ldam_margins(class_counts, max_margin=options.ldam_max_margin)
        return partial(ldam_loss, margins=(options.ldam_scale * margins).to(device))

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


def logit_scale_of(head: str, options: SupervisedOptions) -> float:
    """What the head's output is multiplied with to be logits: cosines need a temperature, linear outputs do not."""
    return options.ldam_scale if head == "cosine" else 1.0
