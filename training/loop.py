"""The training loop: one for supervised, semi-supervised and self-supervised training, and for classifiers alone.

Everything random in an epoch comes from one generator seeded by (seed, epoch),
drawn for the global batch on every rank alike. So a run that was stopped goes
on exactly as it would have, and no generator state needs saving; and which
images meet in a batch does not depend on the world size.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from conf.errors import UserError
from conf.schema import RunOptions
from training.distributed import Rank, share_buffers, sum_over_ranks, with_averaged_gradients
from training.evaluation import evaluate, evaluate_all, evaluate_with_confusion
from training.losses import logit_scale_of
from training.metrics import ClassTotals, Confusion, Totals
from training.rebalancing import epoch_order
from training.schedule import learning_rate
from training.step_watch import StepReport, StepWatch
from training.tasks import Task


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What an epoch gave.

    epoch: finished epochs, from 1; totals: per split, per-class sums over all ranks; confusion: per held-out split
    """

    epoch: int
    learning_rate: float
    totals: dict[str, Totals]
    confusion: dict[str, Confusion]
    epoch_seconds: float
    images_per_second: float


def build_optimizer(model: nn.Module, options: RunOptions) -> torch.optim.SGD | None:
    """SGD over what the model has to learn; None if that is nothing."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not learned:
        return None
    return torch.optim.SGD(
        learned,
        lr=options.learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        fused=True,
    )


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    task: Task,
    options: RunOptions,
    rank: Rank,
    *,
    first_epoch: int,
    on_epoch: Callable[[EpochReport], None],
    on_steps: Callable[[StepReport], None] | None = None,
) -> dict[str, Totals]:
    """Train from first_epoch (counted from 0) to the last; on_epoch is called on every rank after each.

    on_steps: called every few seconds inside an epoch, with what this rank saw since

    Without an optimizer there is nothing to learn, and an epoch only measures.

    Returns the totals of the last epoch; if none was left to train, those of the held-out splits.
    """
    num_steps = math.ceil(len(task.train) / options.batch_size)
    if len(task.train) // num_steps < rank.world_size:
        raise UserError(
            f"{len(task.train)} images in {num_steps} batches are too few for --world_size {rank.world_size}: "
            f"lower --world_size or raise --batch_size"
        )
    trained = with_averaged_gradients(model, rank) if optimizer else model
    totals = evaluate_all(model, task, rank) if first_epoch >= options.epochs else {}
    watch = StepWatch(on_steps) if on_steps else None
    for epoch in range(first_epoch, options.epochs):
        started = time.monotonic()
        # 1. Set the learning rate.
        rate = learning_rate(options.lr_schedule, options.learning_rate, epoch=epoch, num_epochs=options.epochs)
        for group in optimizer.param_groups if optimizer else ():
            group["lr"] = rate
        # 2. Learn from every sample once (or from the drawn ones, when resampling).
        if optimizer:
            train_totals = _train_epoch(
                trained, optimizer, task, options, rank, epoch=epoch, num_steps=num_steps, watch=watch
            )
        else:
            train_totals = evaluate(model, task.train, task, rank)
        train_seconds = time.monotonic() - started
        # 3. Measure.
        share_buffers(model, rank)
        held_out, confusion = evaluate_with_confusion(model, task, rank)
        totals = {"train": train_totals, **held_out}
        loss = sum(train_totals["loss_sum"])
        if not math.isfinite(loss):
            raise UserError(f"the training loss became {loss} in epoch {epoch + 1}: lower --lr (it is {rate:g})")
        # 4. Report: events, checkpoint, logs.
        on_epoch(
            EpochReport(
                epoch=epoch + 1,
                learning_rate=rate,
                totals=totals,
                confusion=confusion,
                epoch_seconds=time.monotonic() - started,
                images_per_second=len(task.train) / train_seconds,
            )
        )
    return totals


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Task,
    options: RunOptions,
    rank: Rank,
    *,
    epoch: int,
    num_steps: int,
    watch: StepWatch | None,
) -> Totals:
    _set_training_mode(model, task)
    generator = epoch_generator(options.seed, epoch)
    sample_weights = task.sample_weights(epoch=epoch, num_epochs=options.epochs)  # (N,)
    totals = ClassTotals.zeros(len(task.class_names), rank.device)
    if watch:
        watch.begin_epoch(epoch + 1, num_steps=num_steps, totals=totals)
    scale = logit_scale_of(task.head)
    order = epoch_order(
        task.train_rule,
        task.train.labels.cpu(),
        task.class_counts,
        epoch=epoch,
        num_epochs=options.epochs,
        generator=generator,
    )
    # Near-equal batches, so that no batch norm ever sees a tiny last one.
    for batch in torch.tensor_split(order, num_steps):
        part = rank.part(len(batch))
        inputs, targets = task.training_inputs(task, batch, part, generator)  # (n, C, H, W), (n,)
        weights = sample_weights[batch]  # (global N,)
        # Gradients are averaged over the ranks: times world_size makes that the weighted mean of the global batch.
        weights = weights * (rank.world_size / weights.sum())
        rank.alive("forward")
        optimizer.zero_grad(set_to_none=True)
        logits = scale * model(inputs)  # (n, num_classes)
        losses = task.loss(logits, targets)  # (n,), of contrasts n or 2 n
        # (n,): where an image is asked twice, its loss is the mean of the two.
        image_losses = losses.view(len(weights[part]), -1).mean(dim=1)
        rank.alive("backward")
        (image_losses * weights[part]).sum().backward()
        optimizer.step()
        totals.add(logits.detach(), targets, losses.detach())
        if watch:
            watch.step_done()
    if watch and not totals.values.isfinite().all():
        watch.tell_now()  # the last that is heard of this run
    sum_over_ranks(totals.values, rank)
    return totals.as_lists()


def _set_training_mode(model: nn.Module, task: Task) -> None:
    """Training mode, but for the batch norm of a frozen backbone: it keeps the statistics it was trained with."""
    model.train()
    for module in model.modules():
        if task.frozen_backbone and isinstance(module, nn.BatchNorm2d):
            module.eval()


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    mixed = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) >> 1)
