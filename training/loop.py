"""The training loop: one for supervised, semi-supervised and self-supervised training, and for classifiers alone.

Everything random in an epoch comes from one generator seeded by (seed, epoch),
drawn for all ranks on every rank alike. So a run that was stopped goes
on exactly as it would have, and no generator state needs saving; and which
images meet in a batch does not depend on the world size, unless they are read
from files (training/batches.py). It is drawn when the epoch begins and moved to
the device, so that no step waits for a copy.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from longtail.conf.base.errors import UserError
from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import TRAIN, UNLABELED
from longtail.training.batches import epoch_batches, epoch_size, loss_weights, num_steps
from longtail.training.distributed import Rank, share_buffers, sum_over_ranks, with_averaged_gradients
from longtail.training.evaluation import evaluate, evaluate_all, evaluate_with_confusion
from longtail.training.images import image_batches
from longtail.training.losses import likeliest
from longtail.training.metrics import ClassTotals, Confusion, Totals
from longtail.training.precision import autocast, compiled
from longtail.training.schedule import learning_rate
from longtail.training.step import Step, rows_of_steps
from longtail.training.step_watch import StepReport, StepWatch
from longtail.training.tasks import Task


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What an epoch gave.

    epoch: finished epochs, from 1
    learning_rate: of its first step
    totals: per split, per-class sums over all ranks; of a held-out split if this epoch was evaluated
    confusion: per held-out split, likewise
    pseudo_labels: sums over the pseudo-labels that were learned, if the truth is known (training/semi/truth.py)
    """

    epoch: int
    learning_rate: float
    totals: dict[str, Totals]
    confusion: dict[str, Confusion]
    pseudo_labels: Totals | None
    epoch_seconds: float
    images_per_second: float

    @property
    def all_totals(self) -> dict[str, Totals]:
        """Those of the splits, and of the unlabeled images under the name of theirs."""
        return self.totals if self.pseudo_labels is None else {**self.totals, UNLABELED: self.pseudo_labels}


def build_optimizer(model: nn.Module, options: RunOptions) -> torch.optim.SGD | None:
    """SGD over what the model has to learn; None if that is nothing."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not learned:
        return None
    return torch.optim.SGD(
        learned,
        lr=options.learning_rate,
        momentum=options.momentum,
        nesterov=options.nesterov,
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
    images, steps = epoch_size(task), num_steps(task, options.batch_size)
    if images // steps < rank.world_size:
        raise UserError(
            f"{images} images in {steps} batches are too few for --world_size {rank.world_size}: "
            f"lower --world_size or raise --batch_size"
        )
    trained = compiled(with_averaged_gradients(model, rank), options, rank.device) if optimizer else model
    totals = evaluate_all(model, task, rank) if first_epoch >= options.epochs else {}
    watch = StepWatch(on_steps) if on_steps else None
    for epoch in range(first_epoch, options.epochs):
        started = time.monotonic()
        rate = learning_rate(options.lr_schedule, options.learning_rate, epoch=epoch, num_epochs=options.epochs)
        # 1. Learn from every sample once (or from the drawn ones, when resampling).
        if optimizer:
            train_totals = _train_epoch(trained, optimizer, task, options, rank, epoch=epoch, watch=watch)
        else:
            train_totals = evaluate(model, task.train, task, rank)
        train_seconds = time.monotonic() - started
        # 2. Measure.
        share_buffers(model, rank)
        is_due = (epoch + 1) % options.eval_every == 0 or epoch + 1 == options.epochs
        held_out, confusion = evaluate_with_confusion(model, task, rank) if is_due else ({}, {})
        totals = {TRAIN: train_totals, **held_out}
        loss = sum(train_totals["loss_sum"])
        if not math.isfinite(loss):
            raise UserError(f"the training loss became {loss} in epoch {epoch + 1}: lower --lr (it is {rate:g})")
        # 3. Report: events, checkpoint, logs.
        on_epoch(
            EpochReport(
                epoch=epoch + 1,
                learning_rate=rate,
                totals=totals,
                confusion=confusion,
                pseudo_labels=task.pseudo_label_totals.as_lists() if task.pseudo_label_totals else None,
                epoch_seconds=time.monotonic() - started,
                images_per_second=images / train_seconds,
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
    watch: StepWatch | None,
) -> Totals:
    _set_training_mode(model, task)
    totals = ClassTotals.zeros(len(task.class_names), rank.device)
    when = {"epoch": epoch, "num_epochs": options.epochs}
    # 1. Which samples meet in a step, what each counts for, how it is augmented: M samples in order, for all ranks.
    generator = epoch_generator(options.seed, epoch)
    batches = epoch_batches(
        task, options.batch_size, rank, **when, shuffle_buffer=options.shuffle_buffer, generator=generator
    )
    order = torch.cat([batch.places for batch in batches])  # (M,)
    choices = task.draw(task, len(order), generator).to(rank.device)
    # Gradients are averaged over the ranks: times world_size makes that their sum.
    weights = (rank.world_size * loss_weights(task, batches, **when)).to(rank.device)  # (M,)
    targets_in_order = task.train.targets[order.to(rank.device)]  # (M,), or (M, C) probabilities
    my_images = image_batches(task.train.images, [batch.places[batch.part] for batch in batches], rank.device)
    who_is_who = [(None, None)] * len(batches)
    if task.unlabeled_ratio is not None:
        who_is_who = rows_of_steps(batches, num_labelled=task.num_labelled, device=rank.device)
    if task.pseudo_label_totals:
        task.pseudo_label_totals.values.zero_()
    # 2. Step by step: this rank's part of the batch.
    step_start = 0
    if watch:
        watch.begin_epoch(epoch + 1, num_steps=len(batches), totals=totals)
    for number, (batch, images) in enumerate(zip(batches, my_images, strict=True)):  # (n, C, H, W) uint8
        mine = slice(step_start + batch.part.start, step_start + batch.part.stop)
        step_start += len(batch.places)
        drawn = choices.part(mine)
        inputs, targets = task.training_inputs(task, images, targets_in_order[mine], drawn)
        labelled, unlabeled = who_is_who[number]
        step = Step(
            number=epoch * len(batches) + number,
            num_steps=options.epochs * len(batches),
            inputs=inputs,
            targets=targets,
            choices=drawn,
            labelled=labelled,
            unlabeled=unlabeled,
        )
        rate = learning_rate(options.lr_schedule, options.learning_rate, share=number / len(batches), **when)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rank.alive("forward")
        optimizer.zero_grad(set_to_none=True)
        with autocast(options.precision, rank.device):
            outputs = model(*task.model_inputs(step))  # (n, num_classes)
        logits, losses = task.step_losses(task, outputs, step)  # losses: (n,), of contrasts n or 2 n
        # (n,): where an image is asked twice, its loss is the mean of the two.
        image_losses = losses.view(len(images), -1).mean(dim=1)
        rank.alive("backward")
        (image_losses * weights[mine]).sum().backward()
        optimizer.step()
        task.after_step(step)
        # Of two views of an image the first is counted.
        totals.add(logits[: len(targets)].detach(), likeliest(targets), losses.detach())
        if watch:
            watch.step_done()
    if watch and not totals.values.isfinite().all():
        watch.tell_now()  # the last that is heard of this run
    sum_over_ranks(totals.values, rank)
    if task.pseudo_label_totals:
        sum_over_ranks(task.pseudo_label_totals.values, rank)
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
