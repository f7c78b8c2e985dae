"""Per-class totals of a pass over a split, and the scores they give."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SHOT_GROUPS = ("many", "medium", "few")


@dataclass
class ClassTotals:
    """Sums by class over the samples seen so far; float64, so counts stay exact up to 2^53.

    support, correct, loss_sum, confidence_sum: (C,) by target class; predicted: (C,) by predicted class
    """

    values: Tensor  # (5, C) on the device of the training

    FIELDS = ("support", "correct", "predicted", "loss_sum", "confidence_sum")

    @classmethod
    def zeros(cls, num_classes: int, device: torch.device) -> "ClassTotals":
        return cls(torch.zeros(len(cls.FIELDS), num_classes, dtype=torch.float64, device=device))

    @torch.no_grad()
    def add(self, logits: Tensor, targets: Tensor, losses: Tensor) -> None:
        """Count a batch: logits (N, C), targets (N,), unweighted losses (N,). Nothing leaves the device."""
        confidence, predicted = logits.float().softmax(dim=1).max(dim=1)  # (N,), (N,)
        ones = torch.ones_like(targets, dtype=torch.float64)
        support, correct, predicted_count, loss_sum, confidence_sum = self.values
        support.index_add_(0, targets, ones)
        correct.index_add_(0, targets, (predicted == targets).double())
        predicted_count.index_add_(0, predicted, ones)
        loss_sum.index_add_(0, targets, losses.double())
        confidence_sum.index_add_(0, targets, confidence.double())

    def as_lists(self) -> dict[str, list[float]]:
        return dict(zip(self.FIELDS, self.values.tolist(), strict=True))


def class_accuracy(totals: dict[str, list[float]]) -> list[float | None]:
    """Share of each class's images that were predicted right; None for a class without images."""
    return [c / s if s else None for c, s in zip(totals["correct"], totals["support"], strict=True)]


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def summarise(totals: dict[str, list[float]], groups: Sequence[str]) -> dict[str, float | None]:
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
