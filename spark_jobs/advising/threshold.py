"""Theorem 1's terms for a real classifier: where pseudo-labels would put the threshold between head and tail.

The two classes of the theorem are the halves of the classes; its one dimension is
the log odds that the base classifier gives the head half. On the held-out images
that gives mu1, mu2 and sigma; p and q are the precisions of the pseudo-labels. The
theorem draws wrong pseudo-labels by chance, a classifier errs near its threshold:
so this is an estimate in the theorem's terms, not the theorem.
"""

from dataclasses import dataclass

import numpy as np

from longtail.conf.theory_grid import T1Point
from longtail.spark_jobs.advising.estimates import Estimates, Said
from longtail.training.theory import t1

PROBABILITY = 0.9
_HALVINGS = 60


@dataclass(frozen=True, kw_only=True)
class ThresholdBias:
    """Distances are in half gaps, (mu1 - mu2)/2: at -1 the threshold is the tail's mean, and half the tail is missed.

    mu1, mu2, sigma: of the log odds of the held-out images, head half and tail half
    num_positive, num_negative: unlabeled images taken for the halves
    p, q: share of these that are right
    base: how far the base classifier's threshold lies from the middle between mu1 and mu2
    difference: D = p - q: how far the threshold that the pseudo-labels give lies from there
    deviation: with probability PROBABILITY or more it lies no further than this from where D has it; None if the
        theorem's bound says that only of a half gap or more, which is nothing
    """

    mu1: float
    mu2: float
    sigma: float
    num_positive: int
    num_negative: int
    p: float
    q: float
    base: float
    difference: float
    deviation: float | None


def threshold_bias(val: Said, unlabeled: Said, found: Estimates, *, is_head: np.ndarray) -> ThresholdBias | None:
    """None if the held-out images do not tell the halves apart, or if all unlabeled images are taken for one."""
    assert val.labels is not None
    means = [_mean_over_classes(val, half) for half in (is_head, ~is_head)]
    num_positive = int(np.count_nonzero(is_head[unlabeled.predicted]))
    num_negative = len(unlabeled.predicted) - num_positive
    if None in means or means[0] <= means[1] or not num_positive or not num_negative:
        return None
    mu1, mu2 = means
    deviations = val.head_log_odds - np.where(is_head[val.labels], mu1, mu2)
    sigma = float(np.sqrt(np.mean(deviations**2)))
    half_gap = (mu1 - mu2) / 2
    point = {
        "mu1": mu1, "mu2": mu2, "sigma": sigma, "p": found.head_precision.value, "q": found.tail_precision.value,
        "num_unlabeled": num_positive + num_negative, "rho_unlabeled": num_positive / num_negative,
    }  # fmt: skip
    return ThresholdBias(
        mu1=mu1,
        mu2=mu2,
        sigma=sigma,
        num_positive=num_positive,
        num_negative=num_negative,
        p=point["p"],
        q=point["q"],
        base=-(mu1 + mu2) / 2 / half_gap,
        difference=found.precision_difference.value,
        deviation=_deviation(point, half_gap),
    )


def _mean_over_classes(val: Said, half: np.ndarray) -> float | None:
    """Mean log odds of the classes of a half that have held-out images, each class counting alike."""
    means = [val.head_log_odds[val.labels == class_id].mean() for class_id in np.unique(val.labels) if half[class_id]]
    return float(np.mean(means)) if means else None


def _deviation(point: dict[str, float], half_gap: float) -> float | None:
    def bound(delta: float) -> float:
        return t1.claim(T1Point(**point, delta=delta)).bound

    low, high = 0.0, half_gap
    if bound(high) < PROBABILITY:
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if bound(middle) >= PROBABILITY else (middle, high)
    return high / half_gap
