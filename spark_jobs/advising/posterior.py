"""Draws from the posterior of the classifier's errors and of the class shares of unlabeled images, given held-out ones.

K is the number of draws, C the number of classes. The C x C confusion rates of all
draws are kept as one sparse block-diagonal matrix, so that one product or one
unfolding serves all draws at once.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, diags_array

from longtail.spark_jobs.advising.classifier_output import HeldOutOutput
from longtail.streaming.class_shares import estimate_class_shares

PRIOR_IMAGES = 2.0
"""Weight of the prior for each class, in held-out images: its errors are like those of its half of the classes."""
FREQUENT_MISTAKES = 10
"""The prior allows for mistakes as this many classes, the most frequent: 8,142 classes have 66 million pairs."""
_TRACE = 1e-12


@dataclass(frozen=True)
class Outcomes:
    """K draws of what happens to the images of each class.

    confusion: (K C, K C), K blocks along the diagonal: [i, j] is the share of the images of class i below the novelty
        threshold that are predicted as class j; rows add up to 1
    below: (K, C), share of a class's images below the novelty threshold
    """

    confusion: csr_array
    below: np.ndarray

    @property
    def recall(self) -> np.ndarray:
        """(K, C)."""
        return self.confusion.diagonal().reshape(self.below.shape)

    def predicted_shares(self, shares: np.ndarray) -> np.ndarray:
        """(K, C): shares of the images by predicted class. shares: (K, C), by true class"""
        return (shares.ravel() @ self.confusion).reshape(shares.shape)


def draw_outcomes(
    val: HeldOutOutput, below: np.ndarray, is_head: np.ndarray, num_draws: int, rng: np.random.Generator
) -> Outcomes:
    """Draw from the posterior, given the held-out images.

    below: (N,) bool, the held-out images below the novelty threshold
    is_head: (C,) bool

    The share of images below the threshold, and the share of these that are predicted correctly, are first drawn for
    each half of the classes (uniform prior). The outcomes of a class have a Dirichlet prior worth PRIOR_IMAGES, with
    the rates of its half, and with wrong predictions distributed like all wrong predictions.
    """
    num_classes = len(is_head)
    is_correct, of_head = val.predicted == val.labels, is_head[val.labels]
    rate, recall = (
        np.where(is_head, *(_draw_share(half & given, hits, num_draws, rng) for half in (of_head, ~of_head)))
        for given, hits in ((np.ones(len(below), bool), below), (below, is_correct))
    )  # (K, C) each
    wrong = np.bincount(val.predicted[~is_correct], minlength=num_classes) + 1 / num_classes
    frequent = np.argsort(-wrong, kind="stable")[:FREQUENT_MISTAKES]
    mistakes = ((1 - recall) * rate)[:, :, None] * (wrong[frequent] / wrong[frequent].sum())  # (K, C, frequent)
    seen, seen_count = np.unique(val.labels[below] * num_classes + val.predicted[below], return_counts=True)
    every = np.arange(num_classes)
    parameters = [
        np.tile(seen_count.astype(float), (num_draws, 1)),
        PRIOR_IMAGES * rate * recall,
        PRIOR_IMAGES * mistakes.reshape(num_draws, -1),
    ]
    rows = np.concatenate([seen // num_classes, every, every.repeat(len(frequent))])
    columns = np.concatenate([seen % num_classes, every, np.tile(frequent, num_classes)])
    # Normalised gamma variables have a Dirichlet distribution; those of a cell that is listed twice add up.
    block = num_classes * np.arange(num_draws)[:, None]
    drawn = rng.gamma(np.concatenate(parameters, axis=1)).ravel()
    size = num_draws * num_classes
    counts = csr_array((drawn, ((block + rows).ravel(), (block + columns).ravel())), shape=(size, size))
    num_below = np.maximum(counts.sum(axis=1), _TRACE)  # (K C,)
    above = np.bincount(val.labels[~below], minlength=num_classes) + PRIOR_IMAGES * (1 - rate)
    rates = num_below.reshape(num_draws, -1)
    return Outcomes(csr_array(diags_array(1 / num_below) @ counts), rates / (rates + rng.gamma(above)))


def _draw_share(images: np.ndarray, hits: np.ndarray, num_draws: int, rng: np.random.Generator) -> np.ndarray:
    """(K, 1) draws of the share of hits among the images; both (N,) bool."""
    num_hits, total = np.count_nonzero(images & hits), np.count_nonzero(images)
    return rng.beta(num_hits + 1, total - num_hits + 1, (num_draws, 1))


def class_shares(counts: np.ndarray, outcomes: Outcomes) -> np.ndarray:
    """(K, C): images of each class, as a share of all unlabeled images.

    counts: (K, C + 1) unlabeled images below the novelty threshold by predicted class; in the last column, those above
    """
    below = counts[:, :-1].sum(axis=1, keepdims=True)  # (K, 1)
    predicted = np.divide(counts[:, :-1], below, out=np.ones_like(counts[:, :-1]), where=below > 0)
    # The draws are independent, so one unfolding of K C classes does all of them.
    shares = estimate_class_shares(predicted.ravel(), outcomes.confusion)
    assert shares is not None  # every class is predicted now and then in every draw of the confusion
    shares = shares.reshape(len(counts), -1)  # (K, C)
    shares = shares / shares.sum(axis=1, keepdims=True)
    # Without an image below, a trace of each class remains, so that shares of the relevant images stay finite.
    return shares * np.maximum(below / counts.sum(axis=1, keepdims=True), _TRACE) / outcomes.below
