"""What a labelled set and a classifier of it tell of unlabeled images: how many are of its classes, and of which.

A held-out image lies about as far from the nearest training image, in the network's
features, as an unlabeled one of its class does; an image of something else lies
further. So among the images nearer than some threshold few are irrelevant. How the
classifier errs on the held-out ones undoes its errors on the unlabeled ones
(streaming/unlabeled.py): that gives the images of each class below the threshold,
and the share of the class's held-out images below it gives all of them. Their sum
over the unlabeled images is the relevance. Too high a threshold lets irrelevant
images in, too low a one leaves too few to count: the one with the lowest upper
bound is taken (after the best-bin estimate of Garg et al. 2021).

Nothing here sees test images, or the withheld labels of unlabeled ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import csr_array, diags_array, eye_array, kron

from streaming.unlabeled import largest_over_smallest, unfolded_shares

THRESHOLD_QUANTILES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the distances of held-out images."""
UPPER_BOUND = 0.9
"""Share of the draws below the bound by which a threshold is chosen."""
PRIOR_IMAGES = 2.0
"""Held-out images that a class counts more than it has; the classifier errs on them as on others of the half."""
FREQUENT_MISTAKES = 10
"""Classes that these are mistaken for: of 8,142 classes all pairs would be 66 million cells."""
MOST_DRAWS, LEAST_DRAWS = 200, 20
MOST_DRAWN_CLASSES = 200_000
"""Of all draws together: of 8,142 classes 24 draws are what a minute has time for."""
INTERVAL = (0.05, 0.95)
LARGEST_RHO = 1e4
IMAGES_AT_ONCE = 1000
_TRACE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the classifier says of N images.

    predicted: (N,) classes; features: (N, D), before the head; head_log_odds: (N,) log odds of the head half of the
    classes against the tail half; labels: (N,), None of unlabeled images
    """

    predicted: np.ndarray
    features: np.ndarray
    head_log_odds: np.ndarray
    labels: np.ndarray | None = None


@dataclass(frozen=True)
class Estimate:
    """A number, and the quantiles INTERVAL of its posterior."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """relevance: share of the unlabeled images that belong to the classes
    tail_share: share of these that belong to the tail half of the classes
    rho: largest over smallest class of an exponential profile, in the order of the labelled classes, whose tail half
    has that share; below 1 the labelled head is the tail
    rho_of_classes: largest over smallest of class_shares, a class counting for at least one image; where classes are
    hard to tell apart much too large, since it looks at the two that err most
    head_recall, tail_recall: share of a class's images that are taken for it, mean over the half; recall_gap: the
    difference
    right: share of all pseudo-labels that are right; an irrelevant image has none
    head_precision, tail_precision: share of the relevant images taken for classes of the half that are of the half (p
    and q of theorem 1); precision_difference: p - q
    class_shares: (C,) share of each class of the relevant images
    recall, precision: (C,); NaN where nothing is taken for the class
    """

    relevance: Estimate
    tail_share: Estimate
    rho: Estimate
    rho_of_classes: Estimate
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


def estimates(*, train: Said, val: Said, unlabeled: Said, is_head: np.ndarray, seed: int = 0) -> Estimates:
    """Estimates for the unlabeled images; is_head (C,) tells the halves of the classes. The same for the same seed."""
    assert val.labels is not None and len(val.labels) and len(unlabeled.predicted)
    rng = np.random.default_rng(seed)
    val_distances, unlabeled_distances = nearest_distances(val, train), nearest_distances(unlabeled, train)
    num_draws = max(LEAST_DRAWS, min(MOST_DRAWS, MOST_DRAWN_CLASSES // len(is_head)))
    found = []
    for limit in np.quantile(val_distances, THRESHOLD_QUANTILES):
        counts = _counts(val, val_distances <= limit, is_head)
        below = unlabeled_distances <= limit
        told = np.append(np.bincount(unlabeled.predicted[below], minlength=len(is_head)), np.count_nonzero(~below))
        drawn_told = rng.gamma(np.broadcast_to(told.astype(float), (num_draws, len(told))))
        drawn = _class_shares(drawn_told, _drawn_outcomes(counts, num_draws, rng))
        bound = np.quantile(drawn.sum(axis=1), UPPER_BOUND)
        found.append((float(bound), _class_shares(told[None].astype(float), _mean_outcomes(counts)), drawn))
    _, shares, drawn = min(found, key=lambda of_limit: of_limit[0])
    # What an image is taken for, whatever its distance.
    counts = _counts(val, np.ones(len(val.labels), bool), is_head)
    outcomes = _mean_outcomes(counts)
    num_images = len(unlabeled.predicted)
    of_all = _summary(shares, outcomes, is_head, num_images=num_images)
    of_draws = _summary(drawn, _drawn_outcomes(counts, num_draws, rng), is_head, num_images=num_images)

    def estimate(name: str) -> Estimate:
        low, high = np.quantile(of_draws[name], INTERVAL)
        return Estimate(float(of_all[name][0]), float(low), float(high))

    taken_for, right = shares[0] @ outcomes.taken_for, shares[0] * outcomes.taken_for.diagonal()
    return Estimates(
        **{name: estimate(name) for name in of_all},
        class_shares=shares[0] / shares[0].sum(),
        recall=outcomes.taken_for.diagonal(),
        precision=np.divide(right, taken_for, out=np.full(len(right), np.nan), where=taken_for > 0),
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


def nearest_distances(images: Said, known: Said) -> np.ndarray:
    """(N,) one less the cosine between an image's features and those of the nearest known one (Sun et al. 2022)."""
    directions = _directions(known.features)
    starts = range(0, len(images.features), IMAGES_AT_ONCE)
    blocks = (_directions(images.features[start : start + IMAGES_AT_ONCE]) for start in starts)
    return np.concatenate([1 - (block @ directions.T).max(axis=1) for block in blocks])


def _directions(features: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(lengths, np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class _Counts:
    """Held-out images by class i. taken_for: (C, C), of those below a threshold, by what they are taken for; beyond:
    (C,), the others."""

    taken_for: csr_array
    beyond: np.ndarray


@dataclass(frozen=True)
class _Outcomes:
    """What becomes of the images of a class, K times. taken_for: (K C, K C), K blocks along the diagonal whose rows add
    up to 1: what those below the threshold are taken for; below: (K, C), the share of a class's images below."""

    taken_for: csr_array
    below: np.ndarray


def _counts(val: Said, below: np.ndarray, is_head: np.ndarray) -> _Counts:
    """PRIOR_IMAGES more of each class than the held-out ones included: these are as often below as all are, and are
    mistaken as often as others of the half are, for what others are. below: (N,) bool"""
    assert val.labels is not None
    num_classes = len(is_head)
    is_right, of_head = val.predicted == val.labels, is_head[val.labels]
    recalls = [
        (np.count_nonzero(half & below & is_right) + 1) / (np.count_nonzero(half & below) + 2)
        for half in (of_head, ~of_head)
    ]
    recall = np.where(is_head, *recalls)  # (C,)
    wrong = np.bincount(val.predicted[~is_right], minlength=num_classes) + 1 / num_classes
    frequent = np.argsort(-wrong, kind="stable")[:FREQUENT_MISTAKES]
    mistakes = np.outer(1 - recall, wrong[frequent] / wrong[frequent].sum())  # (C, frequent)
    prior_below = PRIOR_IMAGES * (np.count_nonzero(below) + 1) / (len(below) + 2)
    every = np.arange(num_classes)
    cells = [
        (np.ones(np.count_nonzero(below)), val.labels[below], val.predicted[below]),
        (prior_below * recall, every, every),
        (prior_below * mistakes.ravel(), every.repeat(len(frequent)), np.tile(frequent, num_classes)),
    ]
    values, true, predicted = (np.concatenate(parts) for parts in zip(*cells, strict=True))
    beyond = np.bincount(val.labels[~below], minlength=num_classes) + PRIOR_IMAGES - prior_below
    return _Counts(csr_array((values, (true, predicted)), shape=(num_classes, num_classes)), beyond)


def _mean_outcomes(counts: _Counts) -> _Outcomes:
    below = counts.taken_for.sum(axis=1)  # (C,)
    return _Outcomes(_over_rows(counts.taken_for, below), (below / (below + counts.beyond))[None])


def _drawn_outcomes(counts: _Counts, num_draws: int, rng: np.random.Generator) -> _Outcomes:
    """Draws from the Dirichlet distributions that have the counts as parameters."""
    drawn = csr_array(kron(eye_array(num_draws), counts.taken_for, format="csr"))
    drawn.data = rng.gamma(drawn.data)
    below = drawn.sum(axis=1)  # (K C,)
    beyond = rng.gamma(np.tile(counts.beyond, num_draws))
    return _Outcomes(_over_rows(drawn, below), (below / (below + beyond)).reshape(num_draws, -1))


def _over_rows(matrix: csr_array, totals: np.ndarray) -> csr_array:
    return csr_array(diags_array(1 / totals) @ matrix)


def _class_shares(told: np.ndarray, outcomes: _Outcomes) -> np.ndarray:
    """(K, C): images of each class over all images.

    told: (K, C + 1) images below the threshold by what they are taken for, and in the last column those beyond
    """
    below = told[:, :-1].sum(axis=1, keepdims=True)  # (K, 1)
    of_below = np.divide(told[:, :-1], below, out=np.ones_like(told[:, :-1]), where=below > 0)
    # The unfolding of one draw has nothing to do with the next one's: together they are one of K times the classes.
    shares = unfolded_shares(of_below.ravel(), outcomes.taken_for).reshape(len(told), -1)  # (K, C)
    shares = shares / shares.sum(axis=1, keepdims=True)
    # Where none is below, a trace of each class is left, so that shares of the relevant ones stay numbers.
    return shares * np.maximum(below / told.sum(axis=1, keepdims=True), _TRACE) / outcomes.below


def _summary(shares: np.ndarray, outcomes: _Outcomes, is_head: np.ndarray, *, num_images: int) -> dict[str, np.ndarray]:
    """The numbers of `Estimates`, each (K,). shares: (K, C) relevant images of each class over all num_images"""
    relevance = np.minimum(shares.sum(axis=1), 1.0)
    shares = shares / shares.sum(axis=1, keepdims=True)
    recall = outcomes.taken_for.diagonal().reshape(shares.shape)
    halves = (is_head, ~is_head)
    # taken[i][j]: relevant images of half i that are taken for classes of half j
    by_half = [((shares * half).ravel() @ outcomes.taken_for).reshape(shares.shape) for half in halves]
    taken = [[of_half[:, half].sum(axis=1) for half in halves] for of_half in by_half]
    p, q = taken[0][0] / (taken[0][0] + taken[1][0]), taken[1][1] / (taken[0][1] + taken[1][1])
    head_recall, tail_recall = (recall[:, half].mean(axis=1) for half in halves)
    tail_share = shares[:, ~is_head].sum(axis=1)
    return {
        "relevance": relevance,
        "tail_share": tail_share,
        "rho": np.array([profile_imbalance(share, num_classes=len(is_head)) for share in tail_share]),
        "rho_of_classes": np.array(
            [largest_over_smallest(*one) for one in zip(shares, relevance * num_images, strict=True)]
        ),
        "head_recall": head_recall,
        "tail_recall": tail_recall,
        "recall_gap": head_recall - tail_recall,
        "right": relevance * (shares * recall).sum(axis=1),
        "head_precision": p,
        "tail_precision": q,
        "precision_difference": p - q,
    }
