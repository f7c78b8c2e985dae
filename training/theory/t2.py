"""T2: a linear classifier cannot separate two Gaussians of equal mean (Yang & Xu 2020, theorem 2).

f = sign(<t, X> + c) with c > 0 errs with probability 1/4 or more. Without c > 0 this is false: for c -> -infinity
every sample is classified as negative, and the error tends to p_positive.
"""

from math import sqrt

import numpy as np
from scipy.special import ndtr

from longtail.conf.theory_grid import T2Point
from longtail.training.theory.blocks import BlockSums, Claim

LEAST_ERROR = 0.25


def claim(point: T2Point) -> Claim:
    """Return the bound of theorem 2 at a point, and the exact error."""
    scaled = point.c / (point.t_norm * point.sigma)
    exact = point.p_positive * ndtr(-scaled) + (1 - point.p_positive) * ndtr(scaled / sqrt(point.b))
    return Claim(bound=LEAST_ERROR, conditions_met=point.c > 0, draws_per_repetition=1, exact=float(exact))


def simulate(point: T2Point, repetitions: int, generator: np.random.Generator) -> BlockSums:
    """Simulate the event that f misclassifies a sample.

    <t, X> is drawn instead of X, which is exact: a linear form of a Gaussian vector of covariance v I is Gaussian with
    variance |t|^2 v, whatever the dimension. The number of positives is Binomial(repetitions, p_positive).
    """
    num_positive = int(generator.binomial(repetitions, point.p_positive))
    scale = point.t_norm * point.sigma
    positives = scale * generator.standard_normal(num_positive)
    negatives = scale * sqrt(point.b) * generator.standard_normal(repetitions - num_positive)
    missed = np.count_nonzero(positives + point.c <= 0)
    false_alarms = np.count_nonzero(negatives + point.c > 0)
    return BlockSums(hits=int(missed + false_alarms))
