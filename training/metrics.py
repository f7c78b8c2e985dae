"""What a pass over a split found, by class or by image, and the scores that gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longtail.conf.vocabulary import NO_CLASS, SHOT_GROUPS

CALIBRATION_BINS = 15

Totals = dict[str, list[float]]
"""ClassTotals by field."""

Confusion = dict[str, list[int]]
"""The cells of a confusion matrix that are not zero: target, predicted and count of each."""


@dataclass
class ClassTotals:
    """Sums by class over the samples seen so far; float64, so counts stay exact up to 2^53.

    support, correct, loss_sum, confidence_sum: (C,) by target class; predicted: (C,) by predicted class
    """

    values: Tensor  # (5, C) on the device of the training

    FIELDS = ("support", "correct", "predicted", "loss_sum", "confidence_sum")

    @classmethod
    def zeros(cls, num_classes: int, device: torch.device) -> "ClassTotals":
        """Sums of no images."""
        return cls(torch.zeros(len(cls.FIELDS), num_classes, dtype=torch.float64, device=device))

    @torch.no_grad()
    def add(self, logits: Tensor, targets: Tensor, losses: Tensor) -> None:
        """Count a batch: logits (N, C), targets (N,), unweighted losses (N,). Nothing leaves the device.

        A target NO_CLASS is not counted.
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
        """The sums (C,) by name."""
        return dict(zip(self.FIELDS, self.values.tolist(), strict=True))


@dataclass(frozen=True)
class Predictions:
    """What was predicted for every image of a split; float64, so that ranks can add their parts up.

    targets, predicted: (N,) classes; confidences: (N,) largest softmax probability; in_top5: (N,) whether the target
    is among the five likeliest classes
    """

    values: Tensor  # (4, N) on the device of the training

    @classmethod
    def zeros(cls, num_images: int, device: torch.device) -> "Predictions":
        """Room for the predictions of num_images images."""
        return cls(torch.zeros(4, num_images, dtype=torch.float64, device=device))

    def put(self, places: slice, logits: Tensor, targets: Tensor) -> None:
        """Enter the images at these places: logits (n, C), targets (n,)."""
        confidence, predicted = logits.float().softmax(dim=1).max(dim=1)  # (n,), (n,)
        likeliest = logits.topk(min(5, logits.shape[1]), dim=1).indices  # (n, 5)
        in_top5 = (likeliest == targets[:, None]).any(dim=1)  # (n,)
        columns = [targets.double(), predicted.double(), confidence.double(), in_top5.double()]
        self.values[:, places] = torch.stack(columns)

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


def class_accuracy(totals: Totals) -> list[float | None]:
    """Share of each class's images that were predicted right; None for a class without images."""
    return [c / s if s else None for c, s in zip(totals["correct"], totals["support"], strict=True)]


def class_precision(totals: Totals) -> list[float | None]:
    """Share of the images predicted as a class that are of it; None for a class that is never predicted."""
    return [c / p if p else None for c, p in zip(totals["correct"], totals["predicted"], strict=True)]


def class_f1(totals: Totals) -> list[float | None]:
    """Harmonic mean of precision and accuracy by class; None for a class neither there nor predicted."""
    columns = zip(totals["correct"], totals["support"], totals["predicted"], strict=True)
    return [
        2 * correct / (support + predicted) if support + predicted else None for correct, support, predicted in columns
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def summarise(totals: Totals, groups: Sequence[str]) -> dict[str, float | None]:
    """Scores of a split; None where there is nothing to score.

    accuracy: over images; balanced_accuracy and the groups: mean of class accuracies; loss: mean over images
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


def class_scores(totals: Totals) -> dict[str, Any]:
    """Accuracy, precision and F1 of each class, and the mean F1 of those that have one."""
    f1 = class_f1(totals)
    return {
        "class_accuracy": class_accuracy(totals),
        "class_precision": class_precision(totals),
        "class_f1": f1,
        "macro_f1": _mean(f1),
    }


def split_scores(totals: Totals, predictions: Predictions | None, groups: Sequence[str]) -> dict[str, Any]:
    """All scores of a split, and its totals; without predictions those that need every one are left out."""
    detailed = {} if predictions is None else prediction_scores(predictions, len(groups))
    return {**summarise(totals, groups), **class_scores(totals), **detailed, "totals": totals}


def prediction_scores(predictions: Predictions, num_classes: int) -> dict[str, Any]:
    """Scores that need every prediction; None where there is nothing to score.

    top5_accuracy: None with five classes or fewer, where it says nothing
    expected_calibration_error: see below
    confusion: see confusion_of
    """
    num_images = len(predictions.targets)
    return {
        "top5_accuracy": predictions.in_top5.double().mean().item() if num_images and num_classes > 5 else None,
        "expected_calibration_error": expected_calibration_error(predictions),
        "confusion": confusion_of(predictions.targets * num_classes + predictions.predicted, num_classes),
    }


def confusion_of(cells: Tensor, num_classes: int) -> Confusion:
    """The confusion matrix of images whose target * num_classes + prediction is given (N,) int64.

    It has at most as many cells as there are images, however many classes there are.
    """
    cells, counts = cells.unique(return_counts=True)
    return {
        "target": (cells // num_classes).tolist(),
        "predicted": (cells % num_classes).tolist(),
        "count": counts.tolist(),
    }


def expected_calibration_error(predictions: Predictions, *, num_bins: int = CALIBRATION_BINS) -> float | None:
    """Mean over images of |accuracy - mean confidence| of their bin (Guo et al. 2017, eq. 3); None without images.

    Bin m of num_bins holds the confidences in ((m - 1)/num_bins, m/num_bins].
    """
    num_images = len(predictions.targets)
    if not num_images:
        return None
    confidences = predictions.confidences  # (N,)
    bins = (confidences * num_bins).ceil().long().clamp(1, num_bins) - 1  # (N,)
    # Within a bin the difference of the means, times the bin's size, is the difference of the sums.
    differences = (predictions.predicted == predictions.targets).double() - confidences  # (N,)
    sums = torch.zeros(num_bins, dtype=torch.float64, device=bins.device).index_add_(0, bins, differences)
    return sums.abs().sum().item() / num_images
