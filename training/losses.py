"""Losses for long-tailed classification, one value per sample.

A loss maps logits (N, C) and targets to (N,) values, without class weights or reduction: the loop weights and averages
them. Targets are (N,) classes, or (N, C) probabilities; then the loss is its mean over the classes, weighted by them.
The one exception is the published focal loss, which class weights enter before they are raised to a power.

A loss of a user's own, `--loss_type package.module:function`, is

    def function(logits: Tensor, targets: Tensor, *, class_counts: Tensor) -> Tensor

with class_counts (C,) int64 training samples per class. It gets probabilities as targets with --pseudo_label_type soft
only.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail.conf.base.errors import UserError
from longtail.conf.base.user_code import call_code, is_code_name, load_code
from longtail.conf.options.training import LossOptions

LossFunction = Callable[[Tensor, Tensor], Tensor]
WeightedLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A loss of logits, targets and the class weights (N,) of the samples, which it applies itself."""


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-log p of the target."""
    return F.cross_entropy(logits, targets, reduction="none")


def focal_loss(logits: Tensor, targets: Tensor, *, gamma: float) -> Tensor:
    """(1 - p)^gamma * CE with p the probability of the target (Lin et al. 2017, eq. 4, without alpha)."""
    return _expected(_focal(-logits.log_softmax(dim=1), gamma), targets)


def weighted_focal_loss(logits: Tensor, targets: Tensor, weights: Tensor, *, gamma: float) -> Tensor:
    """(1 - e^(-w CE))^gamma * w CE, the form of the published experiments; weights w: (N,).

    A weight above 1 makes a sample count as more wrong than it is, one below 1 as less.
    """
    return _expected(_focal(-weights[:, None] * logits.log_softmax(dim=1), gamma), targets)


def _focal(ce: Tensor, gamma: float) -> Tensor:
    """(1 - e^-CE)^gamma * CE of cross-entropies (N, C), one for each class as target."""
    # A power below 1 has infinite slope at 0.
    wrong = (-torch.expm1(-ce)).clamp_min(torch.finfo(ce.dtype).tiny)
    return wrong**gamma * ce


def _expected(losses: Tensor, targets: Tensor) -> Tensor:
    """(N,) losses of the targets, from the losses (N, C) that each class would have as target."""
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
    """CE after the margin of its class is subtracted from the target's logit (Cao et al. 2019, eq. 10).

    margins: (C,) in units of the logits: margins between cosines times their scale
    """
    # CE is log(1 + e^(logsumexp of the others - own logit)).
    return _expected(F.softplus(_others(logits) - logits + margins), targets)


def _others(logits: Tensor) -> Tensor:
    """(N, C) logsumexp of all logits (N, C) but the class's own."""
    top = torch.arange(logits.shape[1], device=logits.device) == logits.argmax(dim=1, keepdim=True)  # (N, C)
    # For the largest logit the others are summed directly: their share may be too small for a subtraction.
    others_of_top = logits.masked_fill(top, -torch.inf).logsumexp(dim=1, keepdim=True)  # (N, 1)
    p = logits.softmax(dim=1).masked_fill(top, 0)  # (N, C), at most 1/2
    return torch.where(top, others_of_top, logits.logsumexp(dim=1, keepdim=True) + torch.log1p(-p))


def log_priors(class_counts: Sequence[int]) -> Tensor:
    """(C,) logarithms of the classes' shares of the training images; minus infinity for a class without any."""
    counts = torch.tensor(class_counts, dtype=torch.float64)
    return torch.log(counts / counts.sum()).float()


def logit_adjusted_loss(logits: Tensor, targets: Tensor, *, adjustment: Tensor) -> Tensor:
    """CE of the logits plus the adjustment (C,), tau * log prior (Menon et al. 2021, eq. 10).

    With tau = 1 it is the balanced softmax, -log(n_y e^z_y / sum_j n_j e^z_j) (Ren et al. 2020, eq. 4):
    counts and shares differ by a factor that cancels.
    """
    return cross_entropy(logits + adjustment, targets)


def build_loss(options: LossOptions, class_counts: Sequence[int], device: torch.device) -> LossFunction:
    """The loss of --loss_type and its parameters for class counts (C,).

    Raises UserError if it is a function of the user's that cannot be found or does not return (N,) losses.
    """
    if is_code_name(options.loss_type):
        return _users_loss(options.loss_type, class_counts, device)

    def adjusted(tau: float) -> LossFunction:
        return partial(logit_adjusted_loss, adjustment=tau * log_priors(class_counts).to(device))

    def ldam() -> LossFunction:
        margins = ldam_margins(class_counts, max_margin=options.ldam_max_margin)
        return partial(ldam_loss, margins=(options.ldam_scale * margins).to(device))

    builders: dict[str, Callable[[], LossFunction]] = {
        "CE": lambda: cross_entropy,
        "Focal": lambda: partial(focal_loss, gamma=options.focal_gamma),
        "FocalNormalised": lambda: partial(focal_loss, gamma=options.focal_gamma),
        "LDAM": ldam,
        "BalancedSoftmax": lambda: adjusted(1.0),
        "LogitAdjusted": lambda: adjusted(options.tau),
    }
    return builders[options.loss_type]()


def build_weighted_loss(options: LossOptions) -> WeightedLoss | None:
    """The loss of --loss_type if it applies class weights itself; None if they multiply its values."""
    return partial(weighted_focal_loss, gamma=options.focal_gamma) if options.loss_type == "Focal" else None


def _users_loss(name: str, class_counts: Sequence[int], device: torch.device) -> LossFunction:
    """A user's function, tried out on two samples."""
    function, counts = load_code(name, option="--loss_type"), torch.tensor(class_counts, device=device)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        found = call_code(function, logits, targets, class_counts=counts, name=name, option="--loss_type")
        if not isinstance(found, Tensor) or found.shape != (len(logits),):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(
                f"--loss_type {name}: for logits {tuple(logits.shape)} it must return losses of shape "
                f"({len(logits)},), it returned {shape}"
            )
        return found

    logits = torch.zeros(2, len(class_counts), device=device, requires_grad=True)
    with torch.enable_grad():
        losses = loss(logits, torch.tensor([0, len(class_counts) - 1], device=device))
    if not losses.requires_grad:
        raise UserError(f"--loss_type {name}: the losses do not depend on the logits, or have no gradient")
    return loss


def head_of(loss_type: str) -> str:
    """The head (a key of models.heads.HEADS) that the loss is defined for."""
    return "cosine" if loss_type == "LDAM" else "linear"


def logit_scale_of(head: str, options: LossOptions) -> float:
    """Factor from the head's outputs to logits: cosines need a scale, linear outputs do not."""
    return options.ldam_scale if head == "cosine" else 1.0
