"""Passes over held-out splits: per-class sums while training, all predictions at the end, features on demand.

Each rank evaluates its share of a split; every rank gets the result for the whole split.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from longtail.models.network import Network
from longtail.training.distributed import Rank, sum_over_ranks
from longtail.training.images import image_batches
from longtail.training.metrics import ClassTotals, Predictions, Totals
from longtail.training.objective import Task
from longtail.training.samples import Samples

EVALUATION_BATCH_SIZE = 1000
_EVALUATION_BATCH_PIXELS = 2**22
"""A batch has fewer images if they are larger than 64 x 64: their activations take memory."""


def evaluate_all(model: nn.Module, task: Task, rank: Rank, *, adjustment: Tensor | None = None) -> dict[str, Totals]:
    """Per-class sums over each held-out split, by split."""
    return {
        split: evaluate(model, samples, task, rank, adjustment=adjustment)
        for split, samples in task.data.held_out.items()
    }


def evaluate_with_predictions(
    model: nn.Module, task: Task, rank: Rank
) -> tuple[dict[str, Totals], dict[str, Predictions]]:
    """Per-class sums and predictions of each held-out split, in one pass."""
    totals, predictions = {}, {}
    for split, samples in task.data.held_out.items():
        totals[split], predictions[split] = totals_and_predictions(model, samples, task, rank)
    return totals, predictions


def totals_and_predictions(model: nn.Module, samples: Samples, task: Task, rank: Rank) -> tuple[Totals, Predictions]:
    """Per-class sums and predictions of one split."""
    found = Predictions.zeros(len(samples), rank.device)
    totals = evaluate(model, samples, task, rank, found=found)
    sum_over_ranks(found.values, rank)
    return totals, found


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    samples: Samples,
    task: Task,
    rank: Rank,
    *,
    adjustment: Tensor | None = None,
    found: Predictions | None = None,
) -> Totals:
    """Per-class sums over a split, in evaluation mode.

    adjustment: (C,) subtracted from the logits (post-hoc logit adjustment, Menon et al. 2021, eq. 9)
    found: zeros, which receive the predictions for the images of this rank's share
    """
    model.eval()
    totals = ClassTotals.zeros(task.data.num_classes, rank.device)
    for indices, inputs, targets in _local_batches(samples, task, rank):
        logits = evaluation_logits(model, inputs, task, adjustment)  # (n, num_classes)
        totals.add(logits, targets, task.objective.loss(logits, targets))
        if found is not None:
            found.put(indices, logits, targets)
    sum_over_ranks(totals.values, rank)
    return totals.as_lists()


@torch.inference_mode()
def predict_all(
    model: nn.Module, task: Task, rank: Rank, *, adjustment: Tensor | None = None
) -> dict[str, Predictions]:
    """Predictions for every image of each held-out split, by split."""
    model.eval()
    predictions = {}
    for split, samples in task.data.held_out.items():
        found = Predictions.zeros(len(samples), rank.device)
        for indices, inputs, targets in _local_batches(samples, task, rank):
            found.put(indices, evaluation_logits(model, inputs, task, adjustment), targets)
        sum_over_ranks(found.values, rank)
        predictions[split] = found
    return predictions


@torch.inference_mode()
def split_features(model: Network, samples: Samples, task: Task, rank: Rank) -> Tensor:
    """(N, num_features) float32 features of a split's images, before the head."""
    model.eval()
    part = torch.cat([model.features(inputs).float() for _, inputs, _ in _local_batches(samples, task, rank)])
    features = torch.zeros(len(samples), part.shape[1], device=rank.device)
    features[rank.part(len(samples))] = part
    return sum_over_ranks(features, rank)


def _local_batches(samples: Samples, task: Task, rank: Rank) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """This rank's share in large batches: indices into the split (n of them), network inputs and targets (n,)."""
    share = rank.part(len(samples))
    # A rank with no share gets one empty batch.
    size = evaluation_batch_size(samples.image_shape)
    starts = range(share.start, max(share.stop, share.start + 1), size)
    batches = [slice(start, min(start + size, share.stop)) for start in starts]
    pixels = image_batches(samples.images, [torch.arange(it.start, it.stop) for it in batches], rank.device)
    for indices, images in zip(batches, pixels, strict=True):
        rank.beat("evaluation")
        inputs, targets = task.objective.evaluation_inputs(
            task.data, images, samples.labels[indices], samples.ids[indices]
        )
        yield indices, inputs, targets


def evaluation_batch_size(image_shape: tuple[int, int, int]) -> int:
    """Images of (channels, height, width) that are evaluated together."""
    _, height, width = image_shape
    return min(EVALUATION_BATCH_SIZE, max(1, _EVALUATION_BATCH_PIXELS // (height * width)))


def evaluation_logits(model: nn.Module, inputs: Tensor, task: Task, adjustment: Tensor | None = None) -> Tensor:
    """(n, C) logits of network inputs, less the adjustment (C,)."""
    logits = task.objective.logit_scale * model(inputs)  # (n, num_classes)
    return logits if adjustment is None else logits - adjustment
