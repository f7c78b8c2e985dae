"""Predictions for images whose class shares differ from those that a classifier's probabilities hold for. numpy alone.

If the images of each class look alike in both, Bayes' rule corrects a probability by the ratio of the class's shares,
new over old. Where the new shares are unknown, expectation-maximisation finds the most likely ones from the
probabilities themselves (Saerens et al. 2002), which must be calibrated (Alexandari et al. 2020).

streaming/class_shares.py also estimates class shares, from counts of predictions and of errors: it serves where only
counts exist, as in metric events, and where errors are drawn from a posterior. With probabilities at hand, this one
uses all that they say.
"""

from dataclasses import dataclass

import numpy as np

from longtail.training.calibration import NUM_RESAMPLES, Calibration, Scaling, log_of

LEAST_SHARE = 1e-12
"""What replaces a share of 0, so that logits stay finite."""
MAX_STEPS = 1000
RESAMPLES_OF_IMAGES = 10
"""For each resample of the calibration."""
_SMALLEST = 1e-30
_TOLERANCE = 1e-6
_RESAMPLE_STEPS = 200
_RESAMPLE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class EstimatedShares:
    """shares, low, high: (C,) the class shares, and the ends of their 95 % intervals"""

    shares: np.ndarray
    low: np.ndarray
    high: np.ndarray


def log_ratios(new_shares: np.ndarray, old_shares: np.ndarray) -> np.ndarray:
    """(C,) to add to logits that hold for class shares old_shares (C,), so that they hold for new_shares (C,)."""
    return np.log(np.maximum(new_shares, LEAST_SHARE)) - np.log(np.maximum(old_shares, LEAST_SHARE))


def estimate_shares(probabilities: np.ndarray, old_shares: np.ndarray) -> np.ndarray:
    """(C,) class shares under which the images are most likely.

    probabilities: (N, C), calibrated for class shares old_shares (C,)
    """
    counts = np.ones((len(probabilities), 1), np.float32)
    start = np.maximum(old_shares, LEAST_SHARE)[:, None]
    return _most_likely(probabilities, old_shares, counts, start, steps=MAX_STEPS, tolerance=_TOLERANCE)[:, 0]


def estimated_with_intervals(
    probabilities: np.ndarray, old_shares: np.ndarray, *, calibration: Calibration | None, seed: int = 0
) -> EstimatedShares:
    """The shares with 95 % percentile intervals of a bootstrap over the images and, if known, over the calibration.

    probabilities: (N, C), for class shares old_shares (C,)
    calibration: what the probabilities were calibrated by
    """
    shares = estimate_shares(probabilities, old_shares)
    rng = np.random.default_rng(seed)
    start = np.repeat(np.maximum(shares, LEAST_SHARE)[:, None], RESAMPLES_OF_IMAGES, axis=1)
    draws = []
    for number in range(NUM_RESAMPLES):
        resampled, old = probabilities, old_shares
        if calibration is not None:
            scaling = calibration.resamples[number]
            resampled, old = _rescaled(probabilities, calibration.scaling, scaling), np.array(scaling.class_shares)
        counts = _resample_counts(len(probabilities), rng)
        draws.append(_most_likely(resampled, old, counts, start, steps=_RESAMPLE_STEPS, tolerance=_RESAMPLE_TOLERANCE))
    low, high = np.quantile(np.concatenate(draws, axis=1), [0.025, 0.975], axis=1)
    return EstimatedShares(shares, np.minimum(low, shares), np.maximum(high, shares))


def _rescaled(probabilities: np.ndarray, scaling: Scaling, other: Scaling) -> np.ndarray:
    """(N, C) as if calibrated by another scaling; what is the same for all classes of an image cancels."""
    logits = scaling.temperature * (log_of(probabilities) - np.array(scaling.biases))
    return other.probabilities(logits).astype(np.float32)


def _resample_counts(num_images: int, rng: np.random.Generator) -> np.ndarray:
    """(N, RESAMPLES_OF_IMAGES) how often each image is in each bootstrap sample."""
    drawn = rng.integers(num_images, size=(RESAMPLES_OF_IMAGES, num_images))
    return np.stack([np.bincount(rows, minlength=num_images) for rows in drawn], axis=1).astype(np.float32)


def _most_likely(
    probabilities: np.ndarray, old_shares: np.ndarray, counts: np.ndarray, start: np.ndarray, *, steps: int,
    tolerance: float,
) -> np.ndarray:  # fmt: skip
    """(C, B) class shares of B samples of the images, in which each is counts (N, B) times; start: (C, B)"""
    shares = start / start.sum(axis=0)
    old = np.maximum(old_shares, LEAST_SHARE)[:, None]  # (C, 1)
    for _ in range(steps):
        ratios = (shares / old).astype(np.float32)  # (C, B)
        # Of the new probabilities of an image, the normalisers; an image that no class explains counts for none.
        sums = np.maximum(probabilities @ ratios, np.float32(_SMALLEST))  # (N, B)
        new = ratios * (probabilities.T @ (counts / sums))  # (C, B)
        new = new / np.maximum(new.sum(axis=0), _SMALLEST)
        change = np.abs(new - shares).sum(axis=0).max()
        shares = new
        if change < tolerance:
            break
    return shares
