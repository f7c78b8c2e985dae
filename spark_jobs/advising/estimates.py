"""What a labelled set and a classifier of it tell of unlabeled images: how many are of its classes, and of which.

A held-out image is about as strange (advice_strangeness.py) as an unlabeled one of
its class, and an image of something else stranger. So among the images below some
threshold few are irrelevant. How the classifier errs
on the held-out ones undoes its errors on the unlabeled ones (streaming/class_shares.py):
that gives the images of each class below the threshold, and the share of the
class's held-out images below it gives all of them. Their sum over the unlabeled
images is the relevance. Too high a threshold lets irrelevant images in, too low a
one leaves too few to count: the one with the lowest upper bound is taken (after
the best-bin estimate of Garg et al. 2021).

Nothing here sees test images, or the withheld labels of unlabeled ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import csr_array, diags_array

from longtail.spark_jobs.advising.novelty import strangeness
from longtail.streaming.class_shares import estimate_class_shares

THRESHOLD_QUANTILES = (0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the strangeness of held-out images."""
UPPER_BOUND = 0.9
"""Share of the draws below the bound by which a threshold is chosen."""
PRIOR_IMAGES = 2.0
"""Held-out images that a class counts more than it has; the classifier errs on them as on others of its half."""
FREQUENT_MISTAKES = 10
"""Classes that these are mistaken for: of 8,142 classes all pairs would be 66 million cells."""
MOST_DRAWS, LEAST_DRAWS = 100, 20
MOST_DRAWN_CLASSES = 200_000
"""Of all draws together: of 8,142 classes 24 draws are what a minute has time for."""
INTERVAL = (0.05, 0.95)
LARGEST_RHO = 1e4
_TRACE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the classifier says of N images.

    predicted: (N,) classes; features: (N, D); head_log_odds: (N,) log odds of the head half of the classes against the
    tail half; labels: (N,), None of unlabeled images
    """

    predicted: np.ndarray
    features: np.ndarray
    head_log_odds: np.ndarray
    labels: np.ndarray | None = None


@dataclass(frozen=True)
class Estimate:
    """A number: the median of its posterior at the chosen threshold, and the quantiles INTERVAL over all thresholds:
    what they differ by is doubt as well."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """relevance: share of the unlabeled images that belong to the classes
    tail_share: share of these that belong to the tail half of the classes
    rho: largest over smallest class of an exponential profile, in the order of the labelled classes, whose tail half
    has that share; below 1 the labelled head is the tail
    head_recall, tail_recall: share of a class's images that are taken for it, mean over the half; recall_gap: the
    difference
    right: share of all pseudo-labels that are right; an irrelevant image has none
    head_precision, tail_precision: share of the relevant images taken for classes of the half that are of the half (p
    and q of theorem 1); precision_difference: p - q
    class_shares: (C,) share of each class of the relevant images
    recall, precision: (C,) share of a class's images that are taken for it, and of the relevant images taken for it
    that are of it; NaN where nothing is
    """

    relevance: Estimate
    tail_share: Estimate
    rho: Estimate
    head_recall: Estimate
    tail_recall: Estimate
    recall_gap: Estimate
    right: Estimate
    head_precision: Estimate
    tail_precision: Estimate
    precision_difference: Estimate
    class_shares: np.ndarray
    recall: np.ndarray
    precision: np.ndarray


def head_half(counts: Sequence[int]) -> np.ndarray:
    """(C,) bool: the half of the classes that has most labels; of an odd number of classes the smaller half."""
    order = sorted(range(len(counts)), key=lambda class_id: (-counts[class_id], class_id))
    is_head = np.zeros(len(counts), bool)
    is_head[order[: len(counts) // 2]] = True
    return is_head


def estimates(*, val: Said, unlabeled: Said, is_head: np.ndarray, seed: int = 0) -> Estimates:
    """Estimates for the unlabeled images; is_head (C,) tells the halves of the classes. The same for the same seed."""
    assert val.labels is not None and len(val.labels) and len(unlabeled.predicted)
    rng = np.random.default_rng(seed)
    num_draws = max(LEAST_DRAWS, min(MOST_DRAWS, MOST_DRAWN_CLASSES // len(is_head)))
    of_thresholds = []
    held_out_strangeness, unlabeled_strangeness = strangeness(
        (val.features, unlabeled.features), (val.predicted, unlabeled.predicted), num_classes=len(is_head), seed=seed
    )
    for limit in np.quantile(held_out_strangeness, THRESHOLD_QUANTILES):
        outcomes = _drawn_outcomes(val, held_out_strangeness <= limit, is_head, num_draws, rng)
        below = unlabeled_strangeness <= limit
        told = np.append(np.bincount(unlabeled.predicted[below], minlength=len(is_head)), np.count_nonzero(~below))
        of_thresholds.append(_class_shares(rng.gamma(np.tile(told.astype(float), (num_draws, 1))), outcomes))
    # What an image is taken for, however strange it is.
    outcomes = _drawn_outcomes(val, np.ones(len(val.labels), bool), is_head, num_draws, rng)
    numbers = [_summary(shares, outcomes, is_head) for shares in of_thresholds]
    bounds = [np.quantile(shares.sum(axis=1), UPPER_BOUND) for shares in of_thresholds]
    best = int(np.argmin(bounds))
    shares, recall = of_thresholds[best], outcomes.taken_for.diagonal().reshape(num_draws, -1)
    taken_for = (shares.ravel() @ outcomes.taken_for).reshape(shares.shape)

    def estimate(name: str) -> Estimate:
        low, high = np.quantile([of_threshold[name] for of_threshold in numbers], INTERVAL)
        return Estimate(float(np.median(numbers[best][name])), float(low), float(high))

    return Estimates(
        **{name: estimate(name) for name in numbers[best]},
        class_shares=(shares / shares.sum(axis=1, keepdims=True)).mean(axis=0),
        recall=recall.mean(axis=0),
        precision=_ratio((shares * recall).mean(axis=0), taken_for.mean(axis=0), of_nothing=np.nan),
    )


def profile_imbalance(tail_share: float, *, num_classes: int) -> float:
    """rho of the profile rho^(-i / (C - 1)) whose tail half (head_half's rest) has this share; within LARGEST_RHO."""
    places = np.linspace(0, 1, num_classes)
    num_head = num_classes // 2

    def excess(log_rho: float) -> float:
        sizes = np.exp(-log_rho * places)
        return float(sizes[num_head:].sum() / sizes.sum() - tail_share)

    limit = math.log(LARGEST_RHO)
    if excess(limit) >= 0:
        return LARGEST_RHO
    if excess(-limit) <= 0:
        return 1 / LARGEST_RHO
    return math.exp(brentq(excess, -limit, limit))


@dataclass(frozen=True)
class _Outcomes:
    """What becomes of the images of a class, K times. taken_for: (K C, K C), K blocks along the diagonal whose rows add
    up to 1: what those below a threshold are taken for; below: (K, C), the share of a class's images below."""

    taken_for: csr_array
    below: np.ndarray


def _drawn_outcomes(
    val: Said, below: np.ndarray, is_head: np.ndarray, num_draws: int, rng: np.random.Generator
) -> _Outcomes:
    """Draws of the posterior, given the held-out images; below: (N,) bool, those below the threshold.

    Of a half, how many images are below and how many of these are recognised has the posterior of the uniform prior.
    Of a class, what becomes of its images has a Dirichlet prior worth PRIOR_IMAGES: as of the half, and mistakes like
    all that are seen.
    """
    assert val.labels is not None
    num_classes = len(is_head)
    is_right, of_head = val.predicted == val.labels, is_head[val.labels]
    rate, recall = (
        np.where(is_head, *(_drawn_share(half & given, these, num_draws, rng) for half in (of_head, ~of_head)))
        for given, these in ((np.ones(len(below), bool), below), (below, is_right))
    )  # (K, C) each
    wrong = np.bincount(val.predicted[~is_right], minlength=num_classes) + 1 / num_classes
    frequent = np.argsort(-wrong, kind="stable")[:FREQUENT_MISTAKES]
    mistakes = ((1 - recall) * rate)[:, :, None] * (wrong[frequent] / wrong[frequent].sum())  # (K, C, frequent)
    seen, seen_count = np.unique(val.labels[below] * num_classes + val.predicted[below], return_counts=True)
    every = np.arange(num_classes)
    parameters = [
        np.tile(seen_count.astype(float), (num_draws, 1)),
        PRIOR_IMAGES * rate * recall,
        PRIOR_IMAGES * mistakes.reshape(num_draws, -1),
    ]
    true = np.concatenate([seen // num_classes, every, every.repeat(len(frequent))])
    taken = np.concatenate([seen % num_classes, every, np.tile(frequent, num_classes)])
    # A Dirichlet distribution is made of gamma ones; of a cell that is there twice they add up.
    block = num_classes * np.arange(num_draws)[:, None]
    drawn = rng.gamma(np.concatenate(parameters, axis=1)).ravel()
    size = num_draws * num_classes
    counts = csr_array((drawn, ((block + true).ravel(), (block + taken).ravel())), shape=(size, size))
    num_below = np.maximum(counts.sum(axis=1), _TRACE)  # (K C,)
    beyond = np.bincount(val.labels[~below], minlength=num_classes) + PRIOR_IMAGES * (1 - rate)
    rates = num_below.reshape(num_draws, -1)
    return _Outcomes(csr_array(diags_array(1 / num_below) @ counts), rates / (rates + rng.gamma(beyond)))


def _drawn_share(images: np.ndarray, these: np.ndarray, num_draws: int, rng: np.random.Generator) -> np.ndarray:
    """(K, 1): which share of the images are these, both (N,) bool, given those that were seen."""
    hits, total = np.count_nonzero(images & these), np.count_nonzero(images)
    return rng.beta(hits + 1, total - hits + 1, (num_draws, 1))


def _class_shares(told: np.ndarray, outcomes: _Outcomes) -> np.ndarray:
    """(K, C): images of each class over all images.

    told: (K, C + 1) images below the threshold by what they are taken for, and in the last column those beyond
    """
    below = told[:, :-1].sum(axis=1, keepdims=True)  # (K, 1)
    of_below = np.divide(told[:, :-1], below, out=np.ones_like(told[:, :-1]), where=below > 0)
    # The unfolding of one draw has nothing to do with the next one's: together they are one of K times the classes.
    shares = estimate_class_shares(of_below.ravel(), outcomes.taken_for).reshape(len(told), -1)  # (K, C)
    shares = shares / shares.sum(axis=1, keepdims=True)
    # Where none is below, a trace of each class is left, so that shares of the relevant ones stay numbers.
    return shares * np.maximum(below / told.sum(axis=1, keepdims=True), _TRACE) / outcomes.below


def _summary(shares: np.ndarray, outcomes: _Outcomes, is_head: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers of `Estimates`, each (K,). shares: (K, C) relevant images of each class over all images"""
    relevance = np.minimum(shares.sum(axis=1), 1.0)
    shares = shares / shares.sum(axis=1, keepdims=True)
    recall = outcomes.taken_for.diagonal().reshape(shares.shape)
    halves = (is_head, ~is_head)
    # taken[i][j]: relevant images of half i that are taken for classes of half j
    by_half = [((shares * half).ravel() @ outcomes.taken_for).reshape(shares.shape) for half in halves]
    taken = [[of_half[:, half].sum(axis=1) for half in halves] for of_half in by_half]
    p, q = (_ratio(taken[half][half], taken[0][half] + taken[1][half], of_nothing=0.0) for half in (0, 1))
    head_recall, tail_recall = (recall[:, half].mean(axis=1) for half in halves)
    tail_share = shares[:, ~is_head].sum(axis=1)
    return {
        "relevance": relevance,
        "tail_share": tail_share,
        "rho": np.array([profile_imbalance(share, num_classes=len(is_head)) for share in tail_share]),
        "head_recall": head_recall,
        "tail_recall": tail_recall,
        "recall_gap": head_recall - tail_recall,
        "right": relevance * (shares * recall).sum(axis=1),
        "head_precision": p,
        "tail_precision": q,
        "precision_difference": p - q,
    }


def _ratio(part: np.ndarray, whole: np.ndarray, *, of_nothing: float) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(part, of_nothing), where=whole > 0)
