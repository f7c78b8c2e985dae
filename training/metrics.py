"""Results of a pass over a split, per class or per image, and the scores computed from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longtail.conf.vocabulary import NO_CLASS, SHOT_GROUPS

CALIBRATION_BINS = 15

Totals = dict[str, list[float]]
"""Fields of ClassTotals by name, each with one number per class."""

Confusion = dict[str, list[int]]
"""Nonzero cells of a confusion matrix, as three lists: target, predicted and count."""


@dataclass
class ClassTotals:
    """Per-class sums over the samples seen so far; float64, so counts are exact up to 2^53.

    support, correct, loss_sum, confidence_sum: (C,), indexed by target; predicted: (C,), indexed by predicted class
    """

    values: Tensor  # (5, C) on the training device

    FIELDS = ("support", "correct", "predicted", "loss_sum", "confidence_sum")

    @classmethod
    def zeros(cls, num_classes: int, device: torch.device) -> "ClassTotals":
        """Create sums of zero images."""
        return cls(torch.zeros(len(cls.FIELDS), num_classes, dtype=torch.float64, device=device))

    @torch.no_grad()
    def add(self, logits: Tensor, targets: Tensor, losses: Tensor) -> None:
        """Add a batch: logits (N, C), targets (N,), losses (N,), without a device synchronisation.

        Samples with the target NO_CLASS are not counted.
        """
        confidence, predicted = logits.float().softmax(dim=1).max(dim=1)  # (N,), (N,)
        counted = (targets != NO_CLASS).double()
        targets = targets.clamp(min=0)
        support, correct, predicted_count, loss_sum, confidence_sum = self.values
        support.index_add_(0, targets, counted)
        correct.index_add_(0, targets, (predicted == targets) * counted)
        predicted_count.index_add_(0, predicted, counted)
        loss_sum.index_add_(0, targets, losses.double() * counted)
        confidence_sum.index_add_(0, targets, confidence.double() * counted)

    def as_lists(self) -> Totals:
        """Return the sums by name, as lists of length C."""
        return dict(zip(self.FIELDS, self.values.tolist(), strict=True))


@dataclass(frozen=True)
class Predictions:
    """Predictions for the N images of a split, in one float64 tensor, which ranks combine by summation.

    targets, predicted: (N,) classes
    confidences: (N,) largest softmax probability
    in_top5: (N,) whether the target is among the five most probable classes
    """

    values: Tensor  # (4, N) on the training device

    @classmethod
    def zeros(cls, num_images: int, device: torch.device) -> "Predictions":
        """Create empty predictions for num_images images."""
        return cls(torch.zeros(4, num_images, dtype=torch.float64, device=device))

    def put(self, indices: slice | Tensor, logits: Tensor, targets: Tensor) -> None:
        """Store the predictions of the images at these indices, a slice or (n,): logits (n, C), targets (n,)."""
        confidence, predicted = logits.float().softmax(dim=1).max(dim=1)  # (n,), (n,)
        top5 = logits.topk(min(5, logits.shape[1]), dim=1).indices  # (n, 5)
        in_top5 = (top5 == targets[:, None]).any(dim=1)  # (n,)
        columns = [targets.double(), predicted.double(), confidence.double(), in_top5.double()]
        self.values[:, indices] = torch.stack(columns)

    @property
    def targets(self) -> Tensor:
        """(N,) true classes."""
        return self.values[0].long()

    @property
    def predicted(self) -> Tensor:
        """(N,) most probable classes."""
        return self.values[1].long()

    @property
    def confidences(self) -> Tensor:
        """(N,) float64 probabilities of the predicted classes."""
        return self.values[2]

    @property
    def in_top5(self) -> Tensor:
        """(N,) whether the true class is among the five most probable."""
        return self.values[3].bool()

    def confusion(self, num_classes: int) -> Confusion:
        """The confusion matrix."""
        return confusion_of(self.targets * num_classes + self.predicted, num_classes)


def class_accuracy(totals: Totals) -> list[float | None]:
    """Recall of each class: fraction of its images predicted correctly; None for a class without images."""
    return [c / s if s else None for c, s in zip(totals["correct"], totals["support"], strict=True)]


def class_precision(totals: Totals) -> list[float | None]:
    """Precision of each class: fraction of its predictions that are correct; None for a class never predicted."""
    return [c / p if p else None for c, p in zip(totals["correct"], totals["predicted"], strict=True)]


def class_f1(totals: Totals) -> list[float | None]:
    """F1 of each class: harmonic mean of precision and recall; None for a class without images and predictions."""
    columns = zip(totals["correct"], totals["support"], totals["predicted"], strict=True)
    return [
        2 * correct / (support + predicted) if support + predicted else None for correct, support, predicted in columns
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def summarise(totals: Totals, groups: Sequence[str]) -> dict[str, float | None]:
    """Compute the main scores of a split; None where there are no images.

    totals: per-class sums; groups: shot group of each class

    Returns accuracy and loss (means over images), balanced_accuracy (mean of class accuracies), and the mean of class
    accuracies per shot group.
    """
    num_images = sum(totals["support"])
    accuracies = class_accuracy(totals)
    scores = {
        "accuracy": sum(totals["correct"]) / num_images if num_images else None,
        "balanced_accuracy": _mean(accuracies),
        "loss": sum(totals["loss_sum"]) / num_images if num_images else None,
    }
    for group in SHOT_GROUPS:
        scores[f"{group}_shot_accuracy"] = _mean([a for a, g in zip(accuracies, groups, strict=True) if g == group])
    return scores


def per_class_scores(totals: Totals) -> dict[str, Any]:
    """Compute accuracy, precision and F1 of each class, and macro F1 (the mean over classes with an F1)."""
    f1 = class_f1(totals)
    return {
        "class_accuracy": class_accuracy(totals),
        "class_precision": class_precision(totals),
        "class_f1": f1,
        "macro_f1": _mean(f1),
    }


def split_scores(totals: Totals, predictions: Predictions | None, groups: Sequence[str]) -> dict[str, Any]:
    """Compute all scores of a split, with its totals; without predictions, those of prediction_scores are left out."""
    detailed = {} if predictions is None else prediction_scores(predictions, len(groups))
    return {**summarise(totals, groups), **per_class_scores(totals), **detailed, "totals": totals}


def prediction_scores(predictions: Predictions, num_classes: int) -> dict[str, Any]:
    """Compute the scores that need the prediction for every image; see detailed_scores."""
    return detailed_scores(
        num_images=len(predictions.targets),
        num_in_top5=int(predictions.in_top5.sum()),
        calibration_differences=calibration_differences(predictions).tolist(),
        confusion=predictions.confusion(num_classes),
        num_classes=num_classes,
    )


def detailed_scores(
    *,
    num_images: int,
    num_in_top5: int,
    calibration_differences: Sequence[float],
    confusion: Confusion,
    num_classes: int,
) -> dict[str, Any]:
    """The scores that need more than ClassTotals; None where there are no images.

    num_in_top5: images whose class is among the five most probable
    calibration_differences: (num_bins,), see the function of that name
    confusion: see confusion_of

    Returns top5_accuracy (None with five classes or fewer, where it is always 1), expected_calibration_error and
    confusion.
    """
    return {
        "top5_accuracy": num_in_top5 / num_images if num_images and num_classes > 5 else None,
        "expected_calibration_error": expected_calibration_error(calibration_differences, num_images),
        "confusion": confusion,
    }


def confusion_of(cells: Tensor, num_classes: int) -> Confusion:
    """Build a sparse confusion matrix; cells: (N,) int64, target * num_classes + prediction of each image.

    It has at most N cells, whatever the number of classes.
    """
    cells, counts = cells.unique(return_counts=True)
    return {
        "target": (cells // num_classes).tolist(),
        "predicted": (cells % num_classes).tolist(),
        "count": counts.tolist(),
    }


def expected_calibration_error(differences: Sequence[float], num_images: int) -> float | None:
    """Expected calibration error (Guo et al. 2017, eq. 3); None without images.

    The mean over images of |accuracy - mean confidence| of their bin. differences: see calibration_differences
    """
    # The difference of a bin's means, times its size, is the difference of its sums.
    return sum(map(abs, differences)) / num_images if num_images else None


def calibration_differences(predictions: Predictions, *, num_bins: int = CALIBRATION_BINS) -> Tensor:
    """(num_bins,) float64: of the images in a bin, the number of correct ones minus the sum of the confidences.

    Bin m of num_bins holds the confidences in ((m - 1)/num_bins, m/num_bins].
    """
    confidences = predictions.confidences  # (N,)
    bins = (confidences * num_bins).ceil().long().clamp(1, num_bins) - 1  # (N,)
    differences = (predictions.predicted == predictions.targets).double() - confidences  # (N,)
    sums = torch.zeros(num_bins, dtype=torch.float64, device=bins.device)
    return sums.index_add_(0, bins, differences)
