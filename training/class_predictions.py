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
    best_probabilities, best = probabilities.topk(min(NUM_BEST, logits.shape[1]), dim=1)  # (N, 5), (N, 5)
    confidence, predicted = best_probabilities[:, 0], best[:, 0]  # (N,), (N,)
    margin = confidence - best_probabilities[:, 1:2].sum(dim=1)  # (N,)
    if (is_tied := margin == 0).any():  # which of them topk() puts first is left open
        predicted = predicted.clone()
        predicted[is_tied] = probabilities[is_tied].argmax(dim=1)
    return ClassPredictions(probabilities, predicted, confidence, margin, best, best_probabilities)
