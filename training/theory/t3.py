"""T3: with a self-supervised feature, few labels are enough (Yang & Xu 2020, theorem 3).

Z = k1 |X|^2 + k2, f = sign(-Z + c), c = (mean Z of the labelled positives + mean Z of the labelled negatives) / 2.
f's error is at most `error_bound` with at least the probability that `claim` returns.
"""

from math import exp

import numpy as np
from scipy.special import chdtr, chdtrc

from longtail.conf.theory_grid import T3Point
from longtail.training.theory.blocks import BlockSums, Claim


def claim(point: T3Point) -> Claim:
    """Return the bounds of theorem 3 at a point: of the probability and of the error."""
    b, dimension, epsilon = point.b, point.dimension, point.epsilon
    failure = sum(2 * exp(-n * dimension * epsilon**2 / 8) for n in (point.num_negative, point.num_positive))
    return Claim(
        bound=1 - failure,
        conditions_met=True,
        draws_per_repetition=point.num_positive + point.num_negative,
        error_bound=error_bound(p_positive=point.p_positive, b=b, dimension=dimension, epsilon=epsilon),
    )


def error_bound(*, p_positive: float, b: float, dimension: int, epsilon: float) -> float:
    """Compute the theorem's upper bound of the error."""
    margin = b - 1 - (1 + b) * epsilon
    missed = exp(-dimension * (margin**2 / 32 if epsilon >= (b - 3) / (b + 1) else margin / 16))
    return p_positive * missed + (1 - p_positive) * exp(-dimension * margin**2 / (32 * b**2))


def simulate(point: T3Point, repetitions: int, generator: np.random.Generator) -> BlockSums:
    """Simulate the event that f's error is within the error bound; measures f's error."""
    errors = classifier_errors(point, repetitions, generator)
    return BlockSums(
        hits=int(np.count_nonzero(errors <= claim(point).error_bound)),
        total=float(errors.sum()),
        total_squares=float(np.square(errors).sum()),
        largest=float(errors.max()),
    )


def classifier_errors(point: T3Point, repetitions: int, generator: np.random.Generator) -> np.ndarray:
    """Draw the error of f, fitted to the labelled samples, of each repetition: (repetitions,).

    The sum of |X|^2 over a class is drawn instead of X, which is exact: |X|^2 / variance of one sample is chi-square
    with `dimension` degrees of freedom, and independent chi-squares add up to one with the sum of the degrees.
    Given c, the error is exact too: it follows from two values of the chi-square distribution function.
    """
    positive_variance, negative_variance = point.sigma**2, point.b * point.sigma**2

    def mean_feature(count: int, variance: float) -> np.ndarray:
        mean_square = variance * generator.chisquare(count * point.dimension, size=repetitions) / count
        return point.k1 * mean_square + point.k2  # (repetitions,)

    positives = mean_feature(point.num_positive, positive_variance)
    negatives = mean_feature(point.num_negative, negative_variance)
    square_at_c = ((positives + negatives) / 2 - point.k2) / point.k1
    missed = chdtrc(point.dimension, square_at_c / positive_variance)
    false_alarms = chdtr(point.dimension, square_at_c / negative_variance)
    return point.p_positive * missed + (1 - point.p_positive) * false_alarms
