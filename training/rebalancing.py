"""How class sizes enter the training: class weights and resampling (--train_rule)."""

from collections.abc import Sequence

import torch
from torch import Tensor

EFFECTIVE_NUMBER_BETA = 0.9999
DRW_START = 0.8
"""Share of the epochs after which deferred re-weighting begins: epoch 160 of 200."""


def effective_number_weights(class_counts: Sequence[int], *, beta: float = EFFECTIVE_NUMBER_BETA) -> Tensor:
    """(C,) float64 weights (1 - beta) / (1 - beta^n), normalised to sum to C (Cui et al. 2019, eq. 3, section 4.1)."""
    counts = torch.tensor(class_counts, dtype=torch.float64)
    weights = (1 - beta) / (1 - beta**counts)
    return weights * (len(class_counts) / weights.sum())


def class_weights(train_rule: str, class_counts: Sequence[int], *, epoch: int, num_epochs: int) -> Tensor:
    """(C,) float32 loss weights for an epoch counted from 0: uniform unless the rule re-weights in that epoch."""
    deferred = train_rule == "DRW" and epoch >= round(num_epochs * DRW_START)
    if train_rule == "Reweight" or deferred:
        return effective_number_weights(class_counts).float()
    return torch.ones(len(class_counts))


def epoch_order(train_rule: str, labels: Tensor, class_counts: Sequence[int], generator: torch.Generator) -> Tensor:
    """(N,) indices of the samples in the order of the epoch.

    A permutation, so that every sample is seen once; under Resample N draws with
    replacement, in which a sample's probability is its class's effective-number weight.
    """
    if train_rule == "Resample":
        sample_weights = effective_number_weights(class_counts)[labels]
        return torch.multinomial(sample_weights, len(labels), replacement=True, generator=generator)
    return torch.randperm(len(labels), generator=generator)
