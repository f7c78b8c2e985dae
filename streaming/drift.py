"""Whether the predictions of a window differ from those of a reference by more than chance. No Spark, no torch.

Each test asks for the probability of what was seen if the window's images were like the reference's, and tells if that
is below ALPHA. Both sides are samples: a small reference makes the tests cautious.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from longtail.streaming.intervals import wilson_interval

ALPHA = 1e-4
"""A test without cause speaks up in one of so many windows."""
FEWEST_IMAGES = 50
"""Of a window that is judged."""
_FEWEST_EXPECTED = 5.0
"""Of a class that the test of the shares looks at by itself; the others are one."""
SHOWN = 3


@dataclass(frozen=True)
class Predictions:
    """Predictions, summed up.

    counts: (C,) images that are predicted as each class
    confidence_sum, confidence_squares: sums of their confidence and of its squares
    """

    counts: np.ndarray
    confidence_sum: float
    confidence_squares: float

    def __add__(self, other: "Predictions") -> "Predictions":
        return Predictions(
            self.counts + other.counts,
            self.confidence_sum + other.confidence_sum,
            self.confidence_squares + other.confidence_squares,
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


def findings(window: Predictions, reference: Predictions, class_names: list[str]) -> list[str]:
    """A line for each way in which the window differs; empty if it has fewer images than FEWEST_IMAGES."""
    if min(window.num_images, reference.num_images) < FEWEST_IMAGES:
        return []
    found = [
        _changed_shares(window, reference, class_names),
        _vanished(window, reference, class_names),
        _less_confident(window, reference),
    ]
    return [line for line in found if line is not None]


def _changed_shares(window: Predictions, reference: Predictions, class_names: list[str]) -> str | None:
    """By the likelihood-ratio test of homogeneity."""
    both = np.stack([reference.counts, window.counts]).astype(float)  # (2, C)
    expected = both.sum(axis=0) * min(window.num_images, reference.num_images) / both.sum()
    is_alone = expected >= _FEWEST_EXPECTED
    table = np.column_stack([both[:, is_alone], both[:, ~is_alone].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return None
    test: Any = stats.chi2_contingency(table, lambda_="log-likelihood")
    if test.pvalue >= ALPHA:
        return None
    before, now = (one.counts / one.num_images for one in (reference, window))
    most = np.argsort(-np.abs(now - before), kind="stable")[:SHOWN]
    changes = ", ".join(f"{class_names[i]} {100 * before[i]:.1f} -> {100 * now[i]:.1f} %" for i in most)
    return f"predicted class shares have changed: {changes}"


def _vanished(window: Predictions, reference: Predictions, class_names: list[str]) -> str | None:
    share = reference.counts / reference.num_images
    least, _ = wilson_interval(share, np.full(len(share), float(reference.num_images)), sqrt=np.sqrt)
    is_known = reference.counts > 0
    is_missing = is_known & (window.counts == 0) & ((1 - least) ** window.num_images < ALPHA / is_known.sum())
    if not is_missing.any():
        return None
    missing = np.flatnonzero(is_missing)
    missing = missing[np.argsort(-share[missing], kind="stable")]
    names = ", ".join(f"{class_names[i]} ({100 * share[i]:.1f} % before)" for i in missing[:SHOWN])
    others = f" and {len(missing) - SHOWN} others" if len(missing) > SHOWN else ""
    return f"never predicted any more: {names}{others}"


def _less_confident(window: Predictions, reference: Predictions) -> str | None:
    """By Welch's test, one-sided."""
    error = np.sqrt(window.variance / window.num_images + reference.variance / reference.num_images)
    fall = reference.mean_confidence - window.mean_confidence
    if fall <= 0 or (error > 0 and stats.norm.sf(fall / error) >= ALPHA):
        return None
    return f"confidence has fallen: {reference.mean_confidence:.3f} -> {window.mean_confidence:.3f} on average"
