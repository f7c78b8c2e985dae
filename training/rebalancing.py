"""Class weights and resampling by class counts (--train_rule)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from longtail.data.statistics import EFFECTIVE_NUMBER_BETA

DEFERRED_START = 0.8
"""Fraction of the epochs after which a deferred rule (DRW, DRS) starts: epoch 160 of 200."""


def effective_number_weights(class_counts: Sequence[int], *, beta: float = EFFECTIVE_NUMBER_BETA) -> Tensor:
    """Weights (C,) float64, (1 - beta) / (1 - beta^n), normalised to sum to C (Cui et al. 2019, eq. 3, section 4.1)."""
    counts = torch.tensor(class_counts, dtype=torch.float64)
    weights = (1 - beta) / (1 - beta**counts)
    return weights * (len(class_counts) / weights.sum())


def class_weights(train_rule: str, class_counts: Sequence[int], *, epoch: int, num_epochs: int) -> Tensor:
    """Loss weights (C,) float32 for an epoch (counted from 0): ones unless the rule re-weights in that epoch."""
    if train_rule == "Reweight" or (train_rule == "DRW" and _is_deferred_stage(epoch, num_epochs)):
        return effective_number_weights(class_counts).float()
    return torch.ones(len(class_counts))


def draw_weights(train_rule: str, class_counts: Sequence[int], *, epoch: int, num_epochs: int) -> Tensor | None:
    """Sampling weights (C,) float64 of a single sample of each class; None if the rule does not resample.

    A class of n samples is drawn n times as often as one of its samples. With shares proportional to n^q,
    SquareRoot has q = 1/2 and ClassBalanced q = 0; ProgressivelyBalanced goes from the class shares of the data in
    epoch 0 towards equal shares, (1 - t/T) n/N + (t/T)/C (Kang et al. 2020, eq. 1 and 2). Resample, and DRS in its
    deferred stage, use effective-number weights.
    """
    counts = torch.tensor(class_counts, dtype=torch.float64)
    # A class without samples is never drawn, whatever its weight.
    counts = torch.where(counts > 0, counts, 1.0)
    if train_rule == "Resample" or (train_rule == "DRS" and _is_deferred_stage(epoch, num_epochs)):
        return effective_number_weights(counts.tolist())
    if train_rule == "ClassBalanced":
        return 1 / counts
    if train_rule == "SquareRoot":
        return counts**-0.5
    if train_rule == "ProgressivelyBalanced":
        progress = epoch / num_epochs
        return (1 - progress) / sum(class_counts) + progress / (len(class_counts) * counts)
    return None


def _is_deferred_stage(epoch: int, num_epochs: int) -> bool:
    return epoch >= round(num_epochs * DEFERRED_START)


def epoch_order(
    train_rule: str,
    labels: Tensor,
    class_counts: Sequence[int],
    *,
    epoch: int,
    num_epochs: int,
    generator: torch.Generator,
) -> Tensor:
    """Sample indices (N,) of an epoch (counted from 0), in order.

    A permutation, so that every sample is used once; with a rule that resamples, N draws with replacement.
    """
    weights = draw_weights(train_rule, class_counts, epoch=epoch, num_epochs=num_epochs)
    if weights is None:
        return torch.randperm(len(labels), generator=generator)
    return torch.multinomial(weights[labels], len(labels), replacement=True, generator=generator)
