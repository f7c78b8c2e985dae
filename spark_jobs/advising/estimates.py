"""Estimates about unlabeled images: how many belong to the classes, to which, and how accurate pseudo-labels would be.

A held-out image has about the novelty score (novelty.py) of an unlabeled image of
its class; other images have higher ones. So few images below a suitable threshold
are irrelevant. The classifier's errors on the held-out images correct its
predictions on the unlabeled ones (streaming/class_shares.py): that gives the number of
images of each class below the threshold, and the share of the class's held-out
images below it gives their total. The sum over the classes, as a share of the
unlabeled images, is the relevance. With a high threshold irrelevant images are
counted, with a low one too few images remain: the threshold with the lowest upper
bound is used (after the best-bin estimate of Garg et al. 2021).

Neither test images nor withheld labels of unlabeled images are used.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import root_scalar

from longtail.spark_jobs.advising.classifier_output import ClassifierOutput, HeldOutOutput
from longtail.spark_jobs.advising.novelty import novelty_scores
from longtail.spark_jobs.advising.posterior import Outcomes, class_shares, draw_outcomes

THRESHOLD_QUANTILES = (0.6, 0.7, 0.8, 0.9, 1.0)
"""Candidate thresholds, as quantiles of the novelty scores of the held-out images."""
UPPER_BOUND = 0.9
"""Quantile of the drawn relevances whose minimum chooses the threshold."""
MAX_DRAWS, MIN_DRAWS = 100, 20
MAX_DRAWN_CLASSES = 200_000
"""Draws times classes: for 8,142 classes, 24 draws take a minute."""
INTERVAL = (0.05, 0.95)
MAX_RHO = 1e4


@dataclass(frozen=True)
class Estimate:
    """The posterior median at the chosen threshold, and the quantiles INTERVAL over the draws of all thresholds.

    The interval includes the differences between thresholds, which are a part of the uncertainty.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassEstimates:
    """An estimate for each class; (C,) each. low, high: as of Estimate, and never on the wrong side of the value"""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Estimates about the unlabeled images ("relevant": those that belong to the classes) and the classifier.

    relevance: share of relevant images
    tail_share: share of the tail half of the classes among the relevant images
    rho: largest over smallest class of the exponential profile, in the order of the labelled classes, whose tail half
        has that share; below 1, classes rare among the labels are common among the relevant images
    head_recall, tail_recall, recall_gap: recall, mean over the classes of a half, and the difference
    missed: share of a class's images that the classifier predicts as another class, mean over the classes
    pseudo_label_accuracy: share of the relevant images that are of the predicted class
    head_precision, tail_precision, precision_difference: of the relevant images predicted as classes of a half, the
        share that belongs to that half, to whichever class of it (p and q of theorem 1), and p - q
    class_shares: share of each class among all unlabeled images; together, they are the relevance
    recall, precision: per class, on relevant images; precision is NaN where nothing is predicted
    held_out: held-out images of the head half and of the tail half, which all of this rests on
    """

    relevance: Estimate
    tail_share: Estimate
    rho: Estimate
    head_recall: Estimate
    tail_recall: Estimate
    recall_gap: Estimate
    missed: Estimate
    pseudo_label_accuracy: Estimate
    head_precision: Estimate
    tail_precision: Estimate
    precision_difference: Estimate
    class_shares: ClassEstimates
    recall: ClassEstimates
    precision: ClassEstimates
    held_out: tuple[int, int]


def estimate_unlabeled(
    val: HeldOutOutput, unlabeled: ClassifierOutput, *, is_head: np.ndarray, seed: int = 0
) -> Estimates:
    """Estimates about the unlabeled images, reproducible by seed. is_head: (C,) bool, the head half of the classes"""
    assert len(val.labels) and len(unlabeled.predicted)
    num_classes = len(is_head)
    rng = np.random.default_rng(seed)
    num_draws = max(MIN_DRAWS, min(MAX_DRAWS, MAX_DRAWN_CLASSES // num_classes))
    val_novelty, unlabeled_novelty = novelty_scores(
        (val.features, unlabeled.features), (val.predicted, unlabeled.predicted), num_classes=num_classes, seed=seed
    )
    by_threshold = []
    for threshold in np.quantile(val_novelty, THRESHOLD_QUANTILES):
        outcomes = draw_outcomes(val, val_novelty <= threshold, is_head, num_draws, rng)
        below = unlabeled_novelty <= threshold
        predicted = np.bincount(unlabeled.predicted[below], minlength=num_classes)
        counts = np.append(predicted, np.count_nonzero(~below)).astype(float)
        by_threshold.append(class_shares(rng.gamma(np.tile(counts, (num_draws, 1))), outcomes))
    # Predictions of all images, whatever their novelty.
    outcomes = draw_outcomes(val, np.ones(len(val.labels), bool), is_head, num_draws, rng)
    summaries = [_summary(shares, outcomes, is_head) for shares in by_threshold]
    best = int(np.argmin([np.quantile(shares.sum(axis=1), UPPER_BOUND) for shares in by_threshold]))
    scalars = {name: _estimate([summary[name] for summary in summaries], best) for name in summaries[best]}
    num_head = int(np.count_nonzero(is_head[val.labels]))
    shares, recall, precision = _by_class(by_threshold, outcomes, best=best, relevance=scalars["relevance"].value)
    return Estimates(
        **scalars,
        class_shares=shares,
        recall=recall,
        precision=precision,
        held_out=(num_head, len(val.labels) - num_head),
    )


def _estimate(by_threshold: Sequence[np.ndarray], best: int) -> Estimate:
    low, high = np.quantile(by_threshold, INTERVAL)
    return Estimate(float(np.median(by_threshold[best])), float(low), float(high))


def _by_class(
    by_threshold: Sequence[np.ndarray], outcomes: Outcomes, *, best: int, relevance: float
) -> tuple[ClassEstimates, ClassEstimates, ClassEstimates]:
    """Shares, recall and precision of each class. by_threshold: (K, C) shares of all images each"""
    shares, recall = by_threshold[best], outcomes.recall
    relevant = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
    precision = _ratio((shares * recall).mean(axis=0), outcomes.predicted_shares(shares).mean(axis=0), if_empty=np.nan)
    drawn = [_ratio(each * recall, outcomes.predicted_shares(each), if_empty=np.nan) for each in by_threshold]
    return (
        _with_quantiles(relevance * relevant, np.minimum(np.concatenate(by_threshold), 1.0)),
        _with_quantiles(recall.mean(axis=0), recall),
        _with_quantiles(precision, np.concatenate(drawn)),
    )


def _with_quantiles(value: np.ndarray, drawn: np.ndarray) -> ClassEstimates:
    """value: (C,); drawn: (draws, C)"""
    low, high = np.quantile(drawn, INTERVAL, axis=0)
    return ClassEstimates(value, np.minimum(low, value), np.maximum(high, value))


def profile_imbalance(tail_share: float, *, num_classes: int) -> float:
    """rho of the profile rho^(-i / (C - 1)) whose tail half has this share; at most MAX_RHO, at least 1 / MAX_RHO."""
    positions = np.linspace(0, 1, num_classes)
    num_head = num_classes // 2

    def excess(log_rho: float) -> float:
        sizes = np.exp(-log_rho * positions)
        return float(sizes[num_head:].sum() / sizes.sum() - tail_share)

    limit = math.log(MAX_RHO)
    if excess(limit) >= 0:
        return MAX_RHO
    if excess(-limit) <= 0:
        return 1 / MAX_RHO
    return math.exp(root_scalar(excess, bracket=(-limit, limit), method="brentq").root)


def _summary(shares: np.ndarray, outcomes: Outcomes, is_head: np.ndarray) -> dict[str, np.ndarray]:
    """The scalar fields of `Estimates`, each (K,). shares: (K, C) relevant images by class, as shares of all images"""
    relevance = np.minimum(shares.sum(axis=1), 1.0)
    shares = shares / shares.sum(axis=1, keepdims=True)
    recall = outcomes.recall
    halves = (is_head, ~is_head)
    # predicted[i][j]: (K,) share of the relevant images of half i that are predicted as classes of half j
    predicted = [
        [of_half[:, half].sum(axis=1) for half in halves]
        for of_half in (outcomes.predicted_shares(shares * half) for half in halves)
    ]
    p, q = (_ratio(predicted[half][half], predicted[0][half] + predicted[1][half], if_empty=0.0) for half in (0, 1))
    head_recall, tail_recall = (recall[:, half].mean(axis=1) for half in halves)
    tail_share = shares[:, ~is_head].sum(axis=1)
    return {
        "relevance": relevance,
        "tail_share": tail_share,
        "rho": np.array([profile_imbalance(share, num_classes=len(is_head)) for share in tail_share]),
        "head_recall": head_recall,
        "tail_recall": tail_recall,
        "recall_gap": head_recall - tail_recall,
        "missed": 1 - recall.mean(axis=1),
        "pseudo_label_accuracy": (shares * recall).sum(axis=1),
        "head_precision": p,
        "tail_precision": q,
        "precision_difference": p - q,
    }


def _ratio(part: np.ndarray, whole: np.ndarray, *, if_empty: float) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(part, if_empty), where=whole > 0)
