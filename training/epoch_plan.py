"""What the steps of an epoch use, drawn when it begins: batches, learning rates, loss weights, random choices.

All random choices of an epoch come from one generator seeded by (seed, epoch), and every rank draws those of all
ranks. So an interrupted run resumes exactly as it would have continued, without saved generator state, and batches do
not depend on the world size unless images are read from files (training/batches.py). They are moved to the device
together, so that no step waits for a copy.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from longtail.conf.options.training import RunOptions
from longtail.training.augmentation import Choices
from longtail.training.batches import epoch_batches, loss_weights, sample_class_weights
from longtail.training.distributed import Rank
from longtail.training.objective import Task
from longtail.training.per_sample import PerSample
from longtail.training.schedule import learning_rate
from longtail.training.step import Batch


@dataclass(frozen=True)
class EpochSamples(PerSample):
    """The M samples of an epoch in the order of its steps, over all ranks.

    indices: (M,) int64 into data.train
    targets: (M,), or (M, C) probabilities
    weights: (M,) float32, by which the losses are multiplied before they are summed
    class_weights: (M,) float32 for an objective whose loss applies them itself; else ones
    choices: their random choices
    """

    indices: Tensor
    targets: Tensor
    weights: Tensor
    class_weights: Tensor
    choices: Choices


@dataclass(frozen=True)
class EpochPlan:
    """An epoch's batches and the learning rate of each; and its samples, on the rank's device."""

    epoch: int
    batches: list[Batch]
    rates: list[float]
    samples: EpochSamples


def plan_epoch(task: Task, options: RunOptions, rank: Rank, *, epoch: int) -> EpochPlan:
    """Draw the plan of an epoch, counted from 0."""
    data, objective = task.data, task.objective
    when = {"epoch": epoch, "num_epochs": options.epochs}
    generator = epoch_generator(options.seed, epoch)
    batches = epoch_batches(
        data,
        objective.train_rule,
        options.batch_size,
        rank,
        **when,
        shuffle_buffer=options.shuffle_buffer,
        generator=generator,
    )
    order = torch.cat([batch.indices for batch in batches])  # (M,)
    choices = objective.draw(data, len(order), generator)
    samples = EpochSamples(
        indices=order,
        # The targets are on the device already, and may be probabilities: too many to move for each epoch.
        targets=data.train.targets[order.to(rank.device)],
        # Gradients are averaged over the ranks; times world_size makes that their sum.
        weights=rank.world_size * loss_weights(data, objective.mean_rule, batches, **when),
        class_weights=sample_class_weights(data, objective.inner_rule, order, **when),
        choices=choices,
    ).to(rank.device)
    rates = [
        learning_rate(options.lr_schedule, options.learning_rate, share=number / len(batches), **when)
        for number in range(len(batches))
    ]
    return EpochPlan(epoch, batches, rates, samples)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The generator of an epoch's random choices: a function of seed and epoch alone."""
    mixed = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) >> 1)
