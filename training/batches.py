"""Batches of an epoch, and the loss weight of each sample.

Samples in memory are shuffled as a whole, so batches do not depend on the number of ranks. If images stay in files,
each rank reads its share of the row groups (data/stream.py), and batches depend on the number of ranks.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from longtail.conf.vocabulary import NO_CLASS
from longtail.data.stream import StreamedImages, epoch_orders
from longtail.training.distributed import Rank
from longtail.training.rebalancing import class_weights, epoch_order
from longtail.training.step import Batch
from longtail.training.step_sizes import num_unlabeled_drawn
from longtail.training.training_data import TrainingData


def epoch_size(data: TrainingData) -> int:
    """Number of images in an epoch."""
    return len(data.train) if data.unlabeled_ratio is None else data.num_labelled + _num_unlabeled(data)


def num_steps(data: TrainingData, batch_size: int) -> int:
    """Number of steps in an epoch; batch_size counts all samples, or with an unlabeled ratio the labelled ones."""
    return math.ceil((len(data.train) if data.unlabeled_ratio is None else data.num_labelled) / batch_size)


def epoch_batches(
    data: TrainingData,
    train_rule: str,
    batch_size: int,
    rank: Rank,
    *,
    epoch: int,
    num_epochs: int,
    shuffle_buffer: int,
    generator: torch.Generator,
) -> list[Batch]:
    """The batches of an epoch (counted from 0), over all ranks.

    Every sample is used once, or as often as it is drawn if train_rule resamples. With data.unlabeled_ratio this holds
    for the labelled samples; each step has ratio times as many unlabeled ones, and none of them is used a second time
    before all have been used once (unless train_rule draws them, too). Batch sizes differ by at most one, so batch norm
    never sees a tiny last batch.

    shuffle_buffer: size of each rank's shuffle buffer when images are read from files
    """
    drawn = _drawn_batches(data, train_rule, batch_size, epoch=epoch, num_epochs=num_epochs, generator=generator)
    if isinstance(data.train.images, StreamedImages):
        return _batches_from_files(data.train.images, drawn, rank, shuffle_buffer=shuffle_buffer, generator=generator)
    return [Batch(indices, rank.part(len(indices))) for indices in drawn]


def _drawn_batches(
    data: TrainingData, train_rule: str, batch_size: int, *, epoch: int, num_epochs: int, generator: torch.Generator
) -> list[Tensor]:
    """Draw the sample indices of each step."""
    labels, steps = data.train.labels.cpu(), num_steps(data, batch_size)

    def order(labels: Tensor) -> Tensor:
        return epoch_order(
            train_rule, labels, data.rule_counts, epoch=epoch, num_epochs=num_epochs, generator=generator
        )

    if data.unlabeled_ratio is None:
        return list(order(labels).tensor_split(steps))
    labelled, others = labels[: data.num_labelled], labels[data.num_labelled :]
    passes = math.ceil(_num_unlabeled(data) / len(others))
    unlabeled = torch.cat([data.num_labelled + order(others) for _ in range(passes)])[: _num_unlabeled(data)]
    pairs = zip(order(labelled).tensor_split(steps), unlabeled.tensor_split(steps), strict=True)
    # Shuffled, so that every rank gets a share of both.
    return [torch.cat(pair)[torch.randperm(sum(map(len, pair)), generator=generator)] for pair in pairs]


def _batches_from_files(
    images: StreamedImages, drawn: Sequence[Tensor], rank: Rank, *, shuffle_buffer: int, generator: torch.Generator
) -> list[Batch]:
    """Rearrange the drawn samples into as many batches, in the order in which the ranks read them."""
    orders = epoch_orders(
        images,
        world_size=rank.world_size,
        shuffle_buffer=shuffle_buffer,
        generator=np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator))),
        repeats=torch.bincount(torch.cat(list(drawn)), minlength=len(images)).numpy(),
    )
    batches = []
    for parts in zip(*(np.array_split(rank_order, len(drawn)) for rank_order in orders), strict=True):
        first = sum(len(part) for part in parts[: rank.rank])
        indices = torch.from_numpy(np.concatenate(parts))
        batches.append(Batch(indices, slice(first, first + len(parts[rank.rank]))))
    return batches


def sample_class_weights(data: TrainingData, train_rule: str, order: Tensor, *, epoch: int, num_epochs: int) -> Tensor:
    """Class weights (M,) float32 of the samples ``order`` (M,); 1 for those without a label."""
    by_class = class_weights(train_rule, data.rule_counts, epoch=epoch, num_epochs=num_epochs)  # (C,)
    labels = data.train.labels.cpu()[order]  # (M,)
    return torch.where(labels == NO_CLASS, 1.0, by_class[labels])


def loss_weights(
    data: TrainingData, train_rule: str, batches: Sequence[Batch], *, epoch: int, num_epochs: int
) -> Tensor:
    """Loss weights (M,) float32 of the samples, in the order of the batches.

    Each is sample weight (1 or omega) times class weight, divided by the sum over the step, so that the loss of a step
    is a weighted mean. With data.unlabeled_ratio it is the mean over the labelled samples plus omega times the
    mean over the pseudo-labelled ones, both weighted by class; without pseudo-labels the second mean is unweighted.
    """
    order = torch.cat([batch.indices for batch in batches])  # (M,)
    classes = sample_class_weights(data, train_rule, order, epoch=epoch, num_epochs=num_epochs)  # (M,)
    samples = data.train.weights.cpu()[order]  # (M,)
    group = torch.repeat_interleave(
        torch.arange(len(batches)), torch.tensor([len(batch.indices) for batch in batches])
    )  # (M,)
    counted = classes * samples
    if data.unlabeled_ratio is not None:
        group = 2 * group + (order >= data.num_labelled)
        counted = classes
    sums = torch.zeros(2 * len(batches)).index_add_(0, group, counted)
    return classes * samples / sums[group]


def _num_unlabeled(data: TrainingData) -> int:
    assert data.unlabeled_ratio is not None
    return num_unlabeled_drawn(data.unlabeled_ratio, data.num_labelled)
