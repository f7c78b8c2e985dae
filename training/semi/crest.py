"""CReST's selection of pseudo-labelled images that join the labelled ones in the next generation (Wei et al. 2021)."""

import math
from collections.abc import Sequence

import numpy as np


def sampling_rates(labelled_counts: Sequence[int], *, alpha: float) -> np.ndarray:
    """(C,) float64 selected shares: (N_{L+1-l} / N_1)^alpha for the l-th largest of L classes (section 3.2).

    All pseudo-labels of the smallest class, the smallest share of the largest one's.
    """
    counts = np.asarray(labelled_counts, np.float64)
    largest_first = np.argsort(-counts, kind="stable")
    rates = np.empty(len(counts))
    rates[largest_first] = (counts[largest_first[::-1]] / counts.max()) ** alpha
    return rates


def rebalanced_selection(
    pseudo_labels: np.ndarray, confidence: np.ndarray, labelled_counts: Sequence[int], *, alpha: float
) -> np.ndarray:
    """(K,) indices of the selected ones of N pseudo-labels: of each class the most confident ones, at its rate.

    Ties go to the first. Numbers are rounded up, so that every predicted class has at least one.
    """
    chosen = []
    for class_id, rate in enumerate(sampling_rates(labelled_counts, alpha=alpha)):
        indices = np.flatnonzero(pseudo_labels == class_id)
        # Rounded first, so that 0.1 of 30 is 3 despite floating-point errors.
        num_chosen = math.ceil(round(rate * len(indices), 9))
        chosen.append(indices[np.argsort(-confidence[indices], kind="stable")][:num_chosen])
    return np.sort(np.concatenate(chosen))
