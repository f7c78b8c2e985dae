"""Class-distribution statistics of one split, from its class counts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

EFFECTIVE_NUMBER_BETA = 0.9999
"""Of the effective numbers in the statistics, and of the weights that trainings make of them."""


@dataclass(frozen=True)
class ClassDistribution:
    """Statistics of class sizes.

    rho: largest over smallest class; None if a class is empty
    normalised_entropy: 1 for a balanced split, 0 for a single class; None without images
    gini: 0 for a balanced split, towards 1 for a single class; None without images
    """

    num_images: int
    rho: float | None
    normalised_entropy: float | None
    gini: float | None


def class_distribution(counts: Sequence[int]) -> ClassDistribution:
    """Statistics of a split with ``counts`` (num_classes,) images per class."""
    total = sum(counts)
    if total == 0:
        return ClassDistribution(0, None, None, None)
    shares = [count / total for count in counts if count]
    entropy = -sum(share * math.log(share) for share in shares)
    num_classes = len(counts)
    # Mean absolute difference of all pairs of classes over twice the mean size, by the sorted-sum formula.
    weighted = sum((2 * i - num_classes + 1) * count for i, count in enumerate(sorted(counts)))
    return ClassDistribution(
        num_images=total,
        rho=max(counts) / min(counts) if min(counts) else None,
        normalised_entropy=entropy / math.log(num_classes) if num_classes > 1 else None,
        gini=weighted / (num_classes * total),
    )


def effective_number(count: int, *, beta: float = EFFECTIVE_NUMBER_BETA) -> float:
    """(1 - beta^n) / (1 - beta): the volume that n overlapping samples cover (Cui et al. 2019, eq. 2)."""
    return (1 - beta**count) / (1 - beta)
