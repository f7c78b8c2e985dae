"""Theorem 1 beside the trials: where it puts the threshold of the pseudo-labels, and where the classifiers have theirs.

The theorem's classes are the two halves of the classes. A threshold is given by its distance from the middle between
the means of the halves, in half gaps (half the distance of the means): above zero, images of the head half are missed.

The theorem predicts p - q for a threshold that is learned from pseudo-labels alone. p and q are the shares of the
pseudo-labels of the head and of the tail half that are of this half. The measured threshold is that of two normal
distributions of equal width which miss as many images of each half as the classifier does. The classifiers have also
learned from the labelled images, and not from features of one dimension: it is a comparison, not a test.
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np


def predicted_bias(row: Mapping[str, Any]) -> float | None:
    """p - q of the pseudo-labels of a trial; None without them, or if they are not known."""
    p, q = row["pseudo_label_head_precision"], row["pseudo_label_tail_precision"]
    return None if p is None or q is None else p - q


def measured_bias(confusion: Sequence[Mapping[str, int]], is_head: np.ndarray) -> float | None:
    """The threshold between the halves of the classes, by the test images: each class weighs as much as any other.

    confusion: cells with target, predicted, count
    is_head: (C,) bool

    None where a half is missed never or always, or where both together are missed more often than not.
    """
    found = np.zeros((len(is_head), 2))  # images by target, and by whether the predicted class is of the head half
    for cell in confusion:
        found[cell["target"], int(is_head[cell["predicted"]])] += cell["count"]
    has_images = found.sum(axis=1) > 0
    shares = found[has_images] / found[has_images].sum(axis=1, keepdims=True)
    of_head, of_tail = shares[is_head[has_images], 1], shares[~is_head[has_images], 0]
    if not len(of_head) or not len(of_tail):
        return None
    recalls = [float(half.mean()) for half in (of_head, of_tail)]
    if not all(0 < recall < 1 for recall in recalls):
        return None
    # From the threshold to the mean of each half, in standard deviations.
    to_head, to_tail = map(NormalDist().inv_cdf, recalls)
    return (to_tail - to_head) / (to_tail + to_head) if to_tail + to_head > 0 else None
