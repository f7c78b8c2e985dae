"""T2: a linear classifier cannot tell two Gaussians of one mean apart (Yang & Xu 2020, theorem 2).

f = sign(<t, X> + c) with c > 0 errs with probability 1/4 or more. Without c > 0 that is wrong: for c -> -infinity
everything is called negative, and the error tends to p_positive.
"""

from math import sqrt

import numpy as np
from scipy.special import ndtr

from longtail.conf.theory_grid import T2Point
from longtail.training.theory.blocks import BlockSums, Claim

LEAST_ERROR = 0.25


def claim(point: T2Point) -> Claim:
    """The bound of theorem 2 at a point, and the exact error."""
    scaled = point.c / (point.t_norm * point.sigma)
    exact = point.p_positive * ndtr(-scaled) + (1 - point.p_positive) * ndtr(scaled / sqrt(point.b))
    return Claim(bound=LEAST_ERROR, conditions_met=point.c > 0, draws_per_repetition=1, exact=float(exact))


def simulate(point: T2Point, repetitions: int, generator: np.random.Generator) -> BlockSums:
    """The event: f is wrong about a sample.

    <t, X> is drawn, not X, and that is exact: a linear form of a Gaussian vector of covariance v I is Gaussian with
    variance |t|^2 v, whatever the dimension. As many are positive as Binomial(repetitions, p_positive) says.
    """
    num_positive = int(generator.binomial(repetitions, point.p_positive))
    scale = point.t_norm * point.sigma
    of_positives = scale * generator.standard_normal(num_positive)
    of_negatives = scale * sqrt(point.b) * generator.standard_normal(repetitions - num_positive)
    missed = np.count_nonzero(of_positives + point.c <= 0)
    false_alarms = np.count_nonzero(of_negatives + point.c > 0)
    return BlockSums(hits=int(missed + false_alarms))
