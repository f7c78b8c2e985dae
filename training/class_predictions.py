"""What a classifier's logits say of each image: the classes, and how sure they are."""

from dataclasses import dataclass

from torch import Tensor

NUM_BEST = 5


@dataclass(frozen=True)
class ClassPredictions:
    """Of N images, on the CPU.

    probabilities: (N, C) float32 softmax of the logits
    predicted: (N,) int64 most probable class; of equally probable ones the first
    confidence: (N,) float32 its probability
    margin: (N,) float32 difference between the two largest probabilities
    best, best_probabilities: (N, min(5, C)) int64 and float32, the most probable classes, the most probable first
    """

    probabilities: Tensor
    predicted: Tensor
    confidence: Tensor
    margin: Tensor
    best: Tensor
    best_probabilities: Tensor


def class_predictions(logits: Tensor) -> ClassPredictions:
    """The predictions of logits (N, C)."""
    probabilities = logits.softmax(dim=1)  # (N, C)
    confidence, predicted = probabilities.max(dim=1)  # (N,), (N,)
    best_probabilities, best = probabilities.topk(min(NUM_BEST, logits.shape[1]), dim=1)  # (N, 5), (N, 5)
    margin = best_probabilities[:, 0] - best_probabilities[:, 1:2].sum(dim=1)  # (N,)
    return ClassPredictions(probabilities, predicted, confidence, margin, best, best_probabilities)
