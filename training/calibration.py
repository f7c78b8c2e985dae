"""Bias-corrected temperature scaling (Alexandari et al. 2020): a classifier's probabilities made to hold for held-out
images. One temperature divides all logits, and each class has a bias. numpy alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

NUM_BINS = 15
NUM_FOLDS = 5
NUM_RESAMPLES = 20
MIN_IMAGES = 20
BIAS_SPREAD = 2.0
"""Standard deviation of the normal prior of a bias, in nats, which a class with few or no held-out images needs."""
_TINY = 1e-30
_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Confidence against accuracy. Bin m of NUM_BINS has the confidences in ((m - 1) / NUM_BINS, m / NUM_BINS].

    images, correct: (NUM_BINS,) images of each bin, and those predicted correctly
    confidence: (NUM_BINS,) sum of the confidences
    """

    images: list[int]
    correct: list[int]
    confidence: list[float]

    def check(self, *, num_images: int) -> None:
        """Raise ValueError unless the bins have that many images, of which not more are correct."""
        columns = self.images, self.correct, self.confidence
        if any(len(column) != NUM_BINS or min(column) < 0 for column in columns):
            raise ValueError(f"calibration: numbers from 0 on for {NUM_BINS} bins were expected")
        if sum(self.images) != num_images or num_images < 1:
            raise ValueError(f"calibration: the bins have {sum(self.images)} images, {num_images} were expected")
        if any(right > of for right, of in zip(self.correct, self.images, strict=True)):
            raise ValueError("calibration: a bin has more correct predictions than images")

    @property
    def accuracy(self) -> float:
        """Share of the images that are predicted correctly."""
        return sum(self.correct) / sum(self.images)

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al. 2017, eq. 3)."""
        gaps = [abs(right - sure) for right, sure in zip(self.correct, self.confidence, strict=True)]
        return sum(gaps) / sum(self.images)


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """What makes calibrated logits of logits z (C,): z / temperature + biases.

    biases: (C,)
    class_shares: (C,) mean calibrated probabilities of the held-out images: the class shares that they hold for
    """

    temperature: float
    biases: list[float]
    class_shares: list[float]

    def in_order(self, order: Sequence[int]) -> "Scaling":
        """With class order[i] as class i."""
        biases, shares = ([values[index] for index in order] for values in (self.biases, self.class_shares))
        return replace(self, biases=biases, class_shares=shares)

    def check(self, *, num_classes: int) -> None:
        """Raise ValueError unless the values fit each other."""
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"calibration: temperature {self.temperature}")
        if len(self.biases) != num_classes or not all(map(math.isfinite, self.biases)):
            raise ValueError("calibration: a finite bias of each class was expected")
        if len(self.class_shares) != num_classes or min(self.class_shares) < 0:
            raise ValueError("calibration: a share of each class was expected")
        if not math.isclose(sum(self.class_shares), 1, abs_tol=1e-3):
            raise ValueError("calibration: class_shares do not add up to 1")

    def probabilities(self, log_probabilities: np.ndarray) -> np.ndarray:
        """(N, C) calibrated, of logits or log probabilities (N, C)."""
        return softmax(log_probabilities / self.temperature + np.array(self.biases), axis=1)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A scaling, and how it was found.

    resamples: scalings of bootstrap samples of the held-out images, which say how exactly they determine it
    num_images: held-out images
    before, after: reliability on them; after by cross-validation, so that no image is judged by a scaling fitted to it
    """

    scaling: Scaling
    resamples: list[Scaling]
    num_images: int
    before: Reliability
    after: Reliability

    def in_order(self, order: Sequence[int]) -> "Calibration":
        """With class order[i] as class i."""
        return replace(
            self, scaling=self.scaling.in_order(order), resamples=[each.in_order(order) for each in self.resamples]
        )

    def check(self, *, num_classes: int) -> None:
        """Raise ValueError unless the values fit each other: wrong ones would give wrong predictions."""
        if len(self.resamples) != NUM_RESAMPLES:
            raise ValueError(f"calibration: {NUM_RESAMPLES} resamples were expected")
        for scaling in (self.scaling, *self.resamples):
            scaling.check(num_classes=num_classes)
        for reliability in (self.before, self.after):
            reliability.check(num_images=self.num_images)


def fit_calibration(probabilities: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> Calibration:
    """Fit temperature and biases to held-out images.

    probabilities: (N, C), of a classifier that did not learn from these images; labels: (N,) classes

    Raises ValueError for fewer than MIN_IMAGES images.
    """
    if len(labels) < MIN_IMAGES:
        raise ValueError(f"{len(labels)} images are too few to calibrate a classifier, {MIN_IMAGES} were expected")
    logs = log_of(probabilities)
    whole = _fitted(logs, labels, None)
    rng = np.random.default_rng(seed)
    fold = rng.permutation(len(labels)) % NUM_FOLDS
    after = np.empty_like(logs)
    for number in range(NUM_FOLDS):
        within, outside = fold == number, fold != number
        after[within] = _fitted(logs[outside], labels[outside], whole).probabilities(logs[within])
    drawn = [rng.integers(len(labels), size=len(labels)) for _ in range(NUM_RESAMPLES)]
    return Calibration(
        scaling=whole,
        resamples=[_fitted(logs[rows], labels[rows], whole) for rows in drawn],
        num_images=len(labels),
        before=reliability(probabilities, labels),
        after=reliability(after, labels),
    )


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> Reliability:
    """Of probabilities (N, C) for labels (N,)."""
    confidence = probabilities.max(axis=1).astype(np.float64)  # (N,)
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(int), 1, NUM_BINS) - 1  # (N,)
    correct = probabilities.argmax(axis=1) == labels  # (N,)
    return Reliability(
        images=np.bincount(bins, minlength=NUM_BINS).tolist(),
        correct=np.bincount(bins[correct], minlength=NUM_BINS).tolist(),
        confidence=np.bincount(bins, weights=confidence, minlength=NUM_BINS).tolist(),
    )


def log_of(probabilities: np.ndarray) -> np.ndarray:
    """(N, C) float64 logarithms, finite also where a probability was rounded to 0."""
    return np.log(np.maximum(probabilities.astype(np.float64), _TINY))


def _fitted(logs: np.ndarray, labels: np.ndarray, start: Scaling | None) -> Scaling:
    """The maximum of the likelihood times the prior of the biases; from ``start``, which it is near."""
    num_classes = logs.shape[1]
    first = np.zeros(1 + num_classes) if start is None else np.array([np.log(start.temperature), *start.biases])
    support = np.bincount(labels, minlength=num_classes)
    every = np.arange(len(labels))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Of log temperature and biases, with its gradient; a mean over the images."""
        biases = parameters[1:]
        scaled = logs * np.exp(-parameters[0])  # (N, C)
        log_probs = log_softmax(scaled + biases, axis=1)
        probs = np.exp(log_probs)
        value = -log_probs[every, labels].sum() + (biases**2).sum() / (2 * BIAS_SPREAD**2)
        of_temperature = scaled[every, labels].sum() - (probs * scaled).sum()
        of_biases = probs.sum(axis=0) - support + biases / BIAS_SPREAD**2
        return float(value) / len(labels), np.concatenate([[of_temperature], of_biases]) / len(labels)

    bounds = [(np.log(0.01), np.log(100.0)), *[(-50.0, 50.0)] * num_classes]
    found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500}).x
    unnormalised = Scaling(temperature=float(np.exp(found[0])), biases=found[1:].tolist(), class_shares=[])
    shares = unnormalised.probabilities(logs).mean(axis=0)
    return Scaling(
        temperature=unnormalised.temperature,
        biases=[_rounded(bias) for bias in unnormalised.biases],
        class_shares=[_rounded(share) for share in shares],
    )


def _rounded(number: float) -> float:
    """With few digits: checkpoints keep many of them as text."""
    return float(f"{number:.{_DIGITS}g}")
