"""T1: threshold between two Gaussians, estimated from pseudo-labels (Yang & Xu 2020, theorem 1).

theta = (mean of the pseudo-positives + mean of the pseudo-negatives) / 2. For any delta > 0,
|theta - (mu1 + mu2)/2 - D (mu1 - mu2)/2| <= delta with at least the probability that `claim` returns.
"""

from math import exp, sqrt

import numpy as np

from longtail.conf.theory_grid import T1Point
from longtail.training.theory.blocks import BlockSums, Claim


def claim(point: T1Point) -> Claim:
    """Return the bound of theorem 1 at a point."""
    positive, negative = point.num_positive, point.num_negative
    gap, delta = point.mu1 - point.mu2, point.delta
    noise = 2 * exp(-2 * delta**2 / (9 * point.sigma**2) * positive * negative / (positive + negative))
    wrong_labels = sum(2 * exp(-8 * count * delta**2 / (9 * gap**2)) for count in (positive, negative))
    return Claim(
        bound=1 - noise - wrong_labels,
        conditions_met=True,
        draws_per_repetition=positive + negative,
        predicted_mean=point.difference * gap / 2,
    )


def simulate(point: T1Point, repetitions: int, generator: np.random.Generator) -> BlockSums:
    """Simulate the event |threshold - prediction| <= delta; measures the bias from Bayes' threshold."""
    bias = simulated_threshold_bias(point, repetitions, generator)
    distance = np.abs(bias - point.difference * (point.mu1 - point.mu2) / 2)
    return BlockSums(
        hits=int(np.count_nonzero(distance <= point.delta)),
        total=float(bias.sum()),
        total_squares=float(np.square(bias).sum()),
        largest=float(bias.max()),
    )


def simulated_threshold_bias(point: T1Point, repetitions: int, generator: np.random.Generator) -> np.ndarray:
    """Draw theta - (mu1 + mu2)/2 of each repetition, (repetitions,).

    The class means are drawn instead of the samples, which is exact: the number of positives among n pseudo-positives
    is Binomial(n, p), and given that number the mean of n independent Gaussians of equal variance is Gaussian with the
    mean of their means and variance sigma^2 / n.
    """

    def class_mean(count: int, share_of_mu1: float) -> np.ndarray:
        from_mu1 = generator.binomial(count, share_of_mu1, size=repetitions)  # (repetitions,)
        noise = generator.standard_normal(repetitions) * (point.sigma / sqrt(count))
        return point.mu2 + (point.mu1 - point.mu2) * from_mu1 / count + noise

    positives = class_mean(point.num_positive, point.p)
    negatives = class_mean(point.num_negative, 1 - point.q)
    return (positives + negatives) / 2 - (point.mu1 + point.mu2) / 2
