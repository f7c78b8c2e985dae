"""Theorem 1's quantities for a real classifier: where pseudo-labels would put the threshold between head and tail.

The theorem's two classes are the two halves of the classes; its one dimension is the
log odds that the base classifier gives the head half. The held-out images give mu1,
mu2 and sigma; p and q are the shares of the pseudo-labels that name the right half.
The theorem assumes that wrong pseudo-labels are random, while a classifier errs near
its threshold: this is an estimate in the theorem's terms, not an application of it.
"""

from dataclasses import dataclass

import numpy as np

from longtail.conf.theory_grid import T1Point
from longtail.spark_jobs.advising.classifier_output import ClassifierOutput, HeldOutOutput
from longtail.spark_jobs.advising.estimates import Estimates
from longtail.training.theory import t1

PROBABILITY = 0.9
_HALVINGS = 60


@dataclass(frozen=True, kw_only=True)
class ThresholdBias:
    """Distances are in half gaps, (mu1 - mu2)/2: at -1 the threshold is the tail's mean, and half the tail is missed.

    mu1, mu2, sigma: of the log odds of the held-out images, head half and tail half
    num_positive, num_negative: unlabeled images predicted as classes of the head and of the tail half
    p, q: share of these that belong to that half (of the relevant ones)
    base: distance of the base classifier's threshold from the middle between mu1 and mu2
    difference: D = p - q, distance of the threshold learned from pseudo-labels from that middle, as predicted
    deviation: with a probability of at least PROBABILITY, the threshold is within this distance of its prediction;
        None if the theorem's bound guarantees this only for a half gap or more, which is no guarantee at all
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


def estimate_threshold_bias(
    val: HeldOutOutput, unlabeled: ClassifierOutput, found: Estimates, *, is_head: np.ndarray
) -> ThresholdBias | None:
    """The bias; None if the held-out images do not separate the halves, or if one half has no prediction."""
    mu1, mu2 = (_mean_over_classes(val, half) for half in (is_head, ~is_head))
    num_positive = int(np.count_nonzero(is_head[unlabeled.predicted]))
    num_negative = len(unlabeled.predicted) - num_positive
    if mu1 is None or mu2 is None or mu1 <= mu2 or not num_positive or not num_negative:
        return None
    deviations = val.head_log_odds - np.where(is_head[val.labels], mu1, mu2)
    half_gap = (mu1 - mu2) / 2
    point = T1Point(
        mu1=mu1,
        mu2=mu2,
        sigma=float(np.sqrt(np.mean(deviations**2))),
        p=found.head_precision.value,
        q=found.tail_precision.value,
        num_unlabeled=num_positive + num_negative,
        rho_unlabeled=num_positive / num_negative,
        delta=half_gap,
    )
    return ThresholdBias(
        mu1=mu1,
        mu2=mu2,
        sigma=point.sigma,
        num_positive=num_positive,
        num_negative=num_negative,
        p=point.p,
        q=point.q,
        base=-(mu1 + mu2) / 2 / half_gap,
        difference=found.precision_difference.value,
        deviation=_deviation(point, half_gap),
    )


def _mean_over_classes(val: HeldOutOutput, half: np.ndarray) -> float | None:
    """Mean over a half's classes with held-out images of the class's mean log odds; None without such a class."""
    means = [val.head_log_odds[val.labels == class_id].mean() for class_id in np.unique(val.labels) if half[class_id]]
    return float(np.mean(means)) if means else None


def _deviation(point: T1Point, half_gap: float) -> float | None:
    """The smallest delta, in half gaps, for which the theorem's bound is PROBABILITY, by bisection."""

    def bound(delta: float) -> float:
        return t1.claim(point.model_copy(update={"delta": delta})).bound

    low, high = 0.0, half_gap
    if bound(high) < PROBABILITY:
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if bound(middle) >= PROBABILITY else (middle, high)
    return high / half_gap
