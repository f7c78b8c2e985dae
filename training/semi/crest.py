"""CReST's selection: which pseudo-labelled images join the labelled ones in the next generation (Wei et al. 2021)."""

import math
from collections.abc import Sequence

import numpy as np


def sampling_rates(labelled_counts: Sequence[int], *, alpha: float) -> np.ndarray:
    """(C,) float64: of the l-th largest of L classes (N_{L+1-l} / N_1)^alpha of the pseudo-labels (section 3.2).

    All of the smallest class's, and of the largest only as many as the smallest is small.
    """
    counts = np.asarray(labelled_counts, np.float64)
    largest_first = np.argsort(-counts, kind="stable")
    rates = np.empty(len(counts))
    rates[largest_first] = (counts[largest_first[::-1]] / counts.max()) ** alpha
    return rates


def rebalanced_selection(
    pseudo_labels: np.ndarray, confidence: np.ndarray, labelled_counts: Sequence[int], *, alpha: float
) -> np.ndarray:
    """(K,) places of the selected of N pseudo-labels: of each class the most confident ones, at its rate.

    Of equally confident ones the first. Numbers are rounded up, so that no predicted class goes without.
    """
    chosen = []
    for class_id, rate in enumerate(sampling_rates(labelled_counts, alpha=alpha)):
        places = np.flatnonzero(pseudo_labels == class_id)
        # 0.1 of 30 is 3, whatever floats say of it.
        wanted = math.ceil(round(rate * len(places), 9))
        chosen.append(places[np.argsort(-confidence[places], kind="stable")][:wanted])
    return np.sort(np.concatenate(chosen))
