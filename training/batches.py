"""Which samples meet in a step, and what each of them weighs there."""

import math

import torch
from torch import Tensor

from training.rebalancing import class_weights, epoch_order
from training.tasks import Task


def epoch_size(task: Task) -> int:
    """Images that an epoch sees."""
    return len(task.train) if task.unlabeled_ratio is None else task.num_labelled + _num_unlabeled(task)


def num_steps(task: Task, batch_size: int) -> int:
    """Steps of an epoch: batch_size is that of all samples together, or with a ratio of the labelled ones."""
    return math.ceil((len(task.train) if task.unlabeled_ratio is None else task.num_labelled) / batch_size)


def epoch_batches(
    task: Task, batch_size: int, *, epoch: int, num_epochs: int, generator: torch.Generator
) -> list[Tensor]:
    """Places in task.train of the samples of each step, for all ranks together; epochs count from 0.

    Together every sample comes once, or as often as it is drawn where the rule resamples. With a ratio that holds for
    the labelled ones; beside them each step has ratio times as many pseudo-labelled ones, of which none comes again
    before all have come. Batches are nearly equal, so that no batch norm ever sees a tiny last one.
    """
    labels, steps = task.train.labels.cpu(), num_steps(task, batch_size)

    def order(labels: Tensor) -> Tensor:
        return epoch_order(
            task.train_rule, labels, task.rule_counts, epoch=epoch, num_epochs=num_epochs, generator=generator
        )

    if task.unlabeled_ratio is None:
        return list(order(labels).tensor_split(steps))
    own, others = labels[: task.num_labelled], labels[task.num_labelled :]
    passes = math.ceil(_num_unlabeled(task) / len(others))
    unlabeled = torch.cat([task.num_labelled + order(others) for _ in range(passes)])[: _num_unlabeled(task)]
    pairs = zip(order(own).tensor_split(steps), unlabeled.tensor_split(steps), strict=True)
    # Mixed, so that every rank has its share of both.
    return [torch.cat(pair)[torch.randperm(sum(map(len, pair)), generator=generator)] for pair in pairs]


def loss_weights(task: Task, batches: list[Tensor], *, epoch: int, num_epochs: int) -> Tensor:
    """(M,) float32 weight of the loss of each sample, in the order of the batches.

    It is the weight of the sample (1 or omega) times that of its class, over the sum of these in the step: the loss of
    a step is a weighted mean. With a ratio it is the mean over the labelled samples plus omega times that over the
    pseudo-labelled ones, both weighted by class (unlabeled ones are all of one, so that their mean is a plain one).
    """
    order = torch.cat(batches)  # (M,)
    of_class = class_weights(task.train_rule, task.rule_counts, epoch=epoch, num_epochs=num_epochs)  # (C,)
    classes = of_class[task.train.labels.cpu()[order]]  # (M,)
    samples = task.train.weights.cpu()[order]  # (M,)
    mean = torch.repeat_interleave(torch.arange(len(batches)), torch.tensor([len(batch) for batch in batches]))  # (M,)
    counted = classes * samples
    if task.unlabeled_ratio is not None:
        mean = 2 * mean + (order >= task.num_labelled)
        counted = classes
    sums = torch.zeros(2 * len(batches)).index_add_(0, mean, counted)
    return classes * samples / sums[mean]


def _num_unlabeled(task: Task) -> int:
    assert task.unlabeled_ratio is not None
    return round(task.unlabeled_ratio * task.num_labelled)
