"""Which samples meet in a step, and what each of them weighs there.

Samples in memory are drawn from all at once, and which of them meet does not
depend on the number of ranks. Of those in files each rank reads a part of the row
groups (data/stream.py), so there it does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from longtail.data.stream import StreamedImages, epoch_orders
from longtail.training.distributed import Rank
from longtail.training.rebalancing import class_weights, epoch_order
from longtail.training.tasks import Task


@dataclass(frozen=True)
class Batch:
    """The samples of one step of all ranks, places (N,) in task.train, and this rank's part of them."""

    places: Tensor
    part: slice


def epoch_size(task: Task) -> int:
    """Images that an epoch sees."""
    return len(task.train) if task.unlabeled_ratio is None else task.num_labelled + _num_unlabeled(task)


def num_steps(task: Task, batch_size: int) -> int:
    """Steps of an epoch: batch_size is that of all samples together, or with a ratio of the labelled ones."""
    return math.ceil((len(task.train) if task.unlabeled_ratio is None else task.num_labelled) / batch_size)


def epoch_batches(
    task: Task,
    batch_size: int,
    rank: Rank,
    *,
    epoch: int,
    num_epochs: int,
    shuffle_buffer: int,
    generator: torch.Generator,
) -> list[Batch]:
    """The steps of an epoch, counted from 0.

    Together every sample comes once, or as often as it is drawn where the rule resamples. With a ratio that holds for
    the labelled ones; beside them each step has ratio times as many pseudo-labelled ones, of which none comes again
    before all have come. Batches are nearly equal, so that no batch norm ever sees a tiny last one.

    shuffle_buffer: of images in files, how many of a rank's are mixed
    """
    drawn = _drawn_batches(task, batch_size, epoch=epoch, num_epochs=num_epochs, generator=generator)
    if isinstance(task.train.images, StreamedImages):
        return _batches_from_files(task.train.images, drawn, rank, shuffle_buffer=shuffle_buffer, generator=generator)
    return [Batch(places, rank.part(len(places))) for places in drawn]


def _drawn_batches(
    task: Task, batch_size: int, *, epoch: int, num_epochs: int, generator: torch.Generator
) -> list[Tensor]:
    """The samples of each step, drawn from all."""
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


def _batches_from_files(
    images: StreamedImages, drawn: Sequence[Tensor], rank: Rank, *, shuffle_buffer: int, generator: torch.Generator
) -> list[Batch]:
    """As many steps with the samples that were drawn, in the order in which the ranks read them."""
    orders = epoch_orders(
        images,
        world_size=rank.world_size,
        shuffle_buffer=shuffle_buffer,
        generator=np.random.default_rng(torch.randint(2**62, (1,), generator=generator).item()),
        repeats=torch.bincount(torch.cat(list(drawn)), minlength=len(images)).numpy(),
    )
    batches = []
    for parts in zip(*(np.array_split(of_rank, len(drawn)) for of_rank in orders), strict=True):
        first = sum(len(part) for part in parts[: rank.rank])
        places = torch.from_numpy(np.concatenate(parts))
        batches.append(Batch(places, slice(first, first + len(parts[rank.rank]))))
    return batches


def loss_weights(task: Task, batches: Sequence[Batch], *, epoch: int, num_epochs: int) -> Tensor:
    """(M,) float32 weight of the loss of each sample, in the order of the batches.

    It is the weight of the sample (1 or omega) times that of its class, over the sum of these in the step: the loss of
    a step is a weighted mean. With a ratio it is the mean over the labelled samples plus omega times that over the
    pseudo-labelled ones, both weighted by class (unlabeled ones are all of one, so that their mean is a plain one).
    """
    order = torch.cat([batch.places for batch in batches])  # (M,)
    of_class = class_weights(task.train_rule, task.rule_counts, epoch=epoch, num_epochs=num_epochs)  # (C,)
    classes = of_class[task.train.labels.cpu()[order]]  # (M,)
    samples = task.train.weights.cpu()[order]  # (M,)
    mean = torch.repeat_interleave(
        torch.arange(len(batches)), torch.tensor([len(batch.places) for batch in batches])
    )  # (M,)
    counted = classes * samples
    if task.unlabeled_ratio is not None:
        mean = 2 * mean + (order >= task.num_labelled)
        counted = classes
    sums = torch.zeros(2 * len(batches)).index_add_(0, mean, counted)
    return classes * samples / sums[mean]


def _num_unlabeled(task: Task) -> int:
    assert task.unlabeled_ratio is not None
    return round(task.unlabeled_ratio * task.num_labelled)
