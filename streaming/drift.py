"""Whether the predictions of a window differ from those of a reference by more than chance. No Spark, no torch.

Each test asks for the probability of what was seen if the window's images were like the reference's, and reports a
finding if that is below ALPHA. Both sides are samples: a small reference makes the tests cautious.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtrc, ndtr

from longtail.streaming.intervals import wilson_interval

ALPHA = 1e-4
"""The share of windows in which a test raises a false alarm."""
FEWEST_IMAGES = 50
"""Of a window that is judged."""
_FEWEST_EXPECTED = 5.0
"""Of a class that the test of the shares looks at by itself; the others are one."""
SHOWN = 3
CONFIDENCE_BINS = 20
"""Bins of equal width, from 0 to 1, in which images are counted."""
NOVEL_SHARE = 0.01


@dataclass(frozen=True)
class PredictionSums:
    """Predictions, summed up.

    counts: (C,) images that are predicted as each class
    confidence_sum, confidence_squares: sums of their confidence and of its squares
    novel: images among them that are less confident than the reference's novelty_bound
    """

    counts: np.ndarray
    confidence_sum: float
    confidence_squares: float
    novel: int = 0

    def __add__(self, other: "PredictionSums") -> "PredictionSums":
        return PredictionSums(
            self.counts + other.counts,
            self.confidence_sum + other.confidence_sum,
            self.confidence_squares + other.confidence_squares,
            self.novel + other.novel,
        )

    @property
    def num_images(self) -> int:
        """Images that have a prediction."""
        return int(self.counts.sum())

    @property
    def mean_confidence(self) -> float:
        """In (0, 1]."""
        return self.confidence_sum / self.num_images

    @property
    def variance(self) -> float:
        """Of the confidence, without bias."""
        spread = self.confidence_squares - self.num_images * self.mean_confidence**2
        return max(spread, 0.0) / (self.num_images - 1)


def novelty_bound(images: np.ndarray) -> int:
    """The bin of confidence below which images count as novel: at most NOVEL_SHARE of the reference's are.

    A network is less sure of images of no known class (Hendrycks & Gimpel 2017); not of all of them.

    images: (CONFIDENCE_BINS,) images of the reference by confidence, in bins of equal width
    """
    return int((np.cumsum(images) <= NOVEL_SHARE * images.sum()).sum())


def findings(window: PredictionSums, reference: PredictionSums, class_names: list[str]) -> list[str]:
    """A line for each way in which the window differs; empty if it has fewer images than FEWEST_IMAGES."""
    tests = (changed_shares, class_vanished, confidence_fell, images_novel)
    return [line for test in tests if (line := test(window, reference, class_names)) is not None]


def are_comparable(window: PredictionSums, reference: PredictionSums) -> bool:
    """Whether both have so many images that a test may say something."""
    return min(window.num_images, reference.num_images) >= FEWEST_IMAGES


def changed_shares(
    window: PredictionSums, reference: PredictionSums, class_names: list[str], *, alpha: float = ALPHA
) -> str | None:
    """Whether the shares of the predicted classes are others, by the likelihood-ratio test of homogeneity."""
    if not are_comparable(window, reference):
        return None
    both = np.stack([reference.counts, window.counts]).astype(float)  # (2, C)
    expected = both.sum(axis=0) * min(window.num_images, reference.num_images) / both.sum()
    is_alone = expected >= _FEWEST_EXPECTED
    table = np.column_stack([both[:, is_alone], both[:, ~is_alone].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return None
    from scipy.stats import chi2_contingency  # loading it takes a second, and few runs send predictions

    test: Any = chi2_contingency(table, lambda_="log-likelihood")
    if test.pvalue >= alpha:
        return None
    before, now = (one.counts / one.num_images for one in (reference, window))
    most = np.argsort(-np.abs(now - before), kind="stable")[:SHOWN]
    changes = ", ".join(f"{class_names[i]} {100 * before[i]:.1f} -> {100 * now[i]:.1f} %" for i in most)
    return f"predicted class shares have changed: {changes}"


def class_vanished(
    window: PredictionSums, reference: PredictionSums, class_names: list[str], *, alpha: float = ALPHA
) -> str | None:
    """Whether classes of the reference are not predicted any more, by the lower end of their shares' intervals."""
    if not are_comparable(window, reference):
        return None
    share = reference.counts / reference.num_images
    least, _ = wilson_interval(share, np.full(len(share), float(reference.num_images)), sqrt=np.sqrt)
    is_known = reference.counts > 0
    is_missing = is_known & (window.counts == 0) & ((1 - least) ** window.num_images < alpha / is_known.sum())
    if not is_missing.any():
        return None
    missing = np.flatnonzero(is_missing)
    missing = missing[np.argsort(-share[missing], kind="stable")]
    names = ", ".join(f"{class_names[i]} ({100 * share[i]:.1f} % before)" for i in missing[:SHOWN])
    others = f" and {len(missing) - SHOWN} others" if len(missing) > SHOWN else ""
    return f"never predicted any more: {names}{others}"


def confidence_fell(
    window: PredictionSums, reference: PredictionSums, class_names: list[str], *, alpha: float = ALPHA
) -> str | None:
    """Whether the mean confidence is lower, by Welch's test."""
    if not are_comparable(window, reference):
        return None
    error = np.sqrt(window.variance / window.num_images + reference.variance / reference.num_images)
    fall = reference.mean_confidence - window.mean_confidence
    # Not true of NaN either, which lines of others may have.
    if not (fall > 0 and (error == 0 or ndtr(-fall / error) < alpha)):
        return None
    return f"confidence has fallen: {reference.mean_confidence:.3f} -> {window.mean_confidence:.3f} on average"


def images_novel(
    window: PredictionSums, reference: PredictionSums, class_names: list[str], *, alpha: float = ALPHA
) -> str | None:
    """Whether more images are novel: of all novel ones, too many are the window's (Przyborowski & Wilenski 1940)."""
    if not are_comparable(window, reference):
        return None
    share = window.num_images / (window.num_images + reference.num_images)
    chance = bdtrc(window.novel - 1, window.novel + reference.novel, share)
    if chance >= alpha:
        return None
    shares = (100 * one.novel / one.num_images for one in (window, reference))
    return "novel images: {:.1f} % are less confident than all but {:.1f} % of the reference".format(*shares)
