"""The training loop, the same for supervised, semi-supervised and self-supervised training and for classifiers alone.

All random choices of an epoch come from one generator seeded by (seed, epoch), and every rank draws those of all
ranks. So an interrupted run resumes exactly as it would have continued, without saved generator state, and batches do
not depend on the world size unless images are read from files (training/batches.py). The choices are drawn when the
epoch begins and moved to the device, so that no step waits for a copy.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import TRAIN, UNLABELED
from longtail.training.batches import epoch_batches, epoch_size, loss_weights, num_steps, sample_class_weights
from longtail.training.distributed import Rank, max_over_ranks, share_buffers, sum_over_ranks, with_averaged_gradients
from longtail.training.evaluation import evaluate, evaluate_all, evaluate_with_predictions
from longtail.training.finite import check_totals, check_weights
from longtail.training.images import image_batches
from longtail.training.losses import hard_targets
from longtail.training.metrics import ClassTotals, Predictions, Totals
from longtail.training.objective import Objective, Task
from longtail.training.precision import autocast, compile_model
from longtail.training.schedule import learning_rate
from longtail.training.semi.image_pseudo_labels import ImagePseudoLabels
from longtail.training.step import Step, rows_by_step
from longtail.training.step_sizes import check_step_sizes
from longtail.training.step_watch import StepReport, StepWatch

# torch exports no public base class of them.
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """Measurements of one epoch.

    epoch: number of finished epochs, from 1
    learning_rate: of the epoch's first step
    totals: per-class sums over all ranks, by split; held-out splits only in epochs that are evaluated
    predictions: predictions by held-out split, likewise
    pseudo_labels: per-class sums over the pseudo-labels, if the true classes are known (training/semi/truth.py)
    image_pseudo_labels: the latest pseudo-label of each unlabeled image, if the steps make them
    """

    epoch: int
    learning_rate: float
    totals: dict[str, Totals]
    predictions: dict[str, Predictions]
    pseudo_labels: Totals | None
    image_pseudo_labels: ImagePseudoLabels | None
    epoch_seconds: float
    images_per_second: float

    @property
    def all_totals(self) -> dict[str, Totals]:
        """Totals of the splits, with those of the pseudo-labels as the unlabeled split."""
        return self.totals if self.pseudo_labels is None else {**self.totals, UNLABELED: self.pseudo_labels}


def build_optimizer(model: nn.Module, options: RunOptions) -> torch.optim.SGD | None:
    """SGD over the parameters that require gradients; None if there are none."""
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
    """Train from first_epoch (counted from 0) to the last epoch.

    on_epoch: called on every rank after each epoch
    on_steps: called every few seconds within an epoch, with this rank's measurements since the last call

    Without an optimizer nothing is learned, and an epoch only measures.

    Returns the totals of the last epoch; if no epoch was left to train, those of the held-out splits.
    """
    images, steps = epoch_size(task.data), num_steps(task.data, options.batch_size)
    check_step_sizes(images, steps, rank.world_size, batch_norm=bool(optimizer) and _learns_batch_norm(model, task))
    trained = compile_model(with_averaged_gradients(model, rank), options, rank.device) if optimizer else model
    totals = evaluate_all(model, task, rank) if first_epoch >= options.epochs else {}
    check_totals(totals, when="in the checkpoint", remedy="train again with a lower --lr")
    watch = StepWatch(on_steps) if on_steps else None
    for epoch in range(first_epoch, options.epochs):
        started = time.monotonic()
        rate = learning_rate(options.lr_schedule, options.learning_rate, epoch=epoch, num_epochs=options.epochs)
        # 1. Learn from every sample once (or from the drawn ones, when resampling).
        if optimizer:
            train_totals = _train_epoch(trained, optimizer, task, options, rank, epoch=epoch, watch=watch)
        else:
            train_totals = evaluate(model, task.data.train, task, rank)
        train_seconds = time.monotonic() - started
        share_buffers(model, rank)
        # 2. Measure, if the weights are numbers: the last step may have spoilt them after its loss was computed.
        context = {"when": f"in epoch {epoch + 1}", "remedy": _remedy_of_divergence(optimizer, rate)}
        check_totals({TRAIN: train_totals}, **context)
        check_weights(model, optimizer, **context)
        task.objective.check_learned(model, task.data, **context)
        is_due = (epoch + 1) % options.eval_every == 0 or epoch + 1 == options.epochs
        held_out, predictions = evaluate_with_predictions(model, task, rank) if is_due else ({}, {})
        totals = {TRAIN: train_totals, **held_out}
        pseudo_label_totals = task.objective.pseudo_label_totals
        report = EpochReport(
            epoch=epoch + 1,
            learning_rate=rate,
            totals=totals,
            predictions=predictions,
            pseudo_labels=pseudo_label_totals.as_lists() if pseudo_label_totals else None,
            image_pseudo_labels=task.objective.image_pseudo_labels,
            epoch_seconds=time.monotonic() - started,
            images_per_second=images / train_seconds,
        )
        check_totals(report.all_totals, **context)
        # 3. Report: events, checkpoint, logs.
        on_epoch(report)
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
    data, objective = task.data, task.objective
    _set_training_mode(model, objective)
    totals = ClassTotals.zeros(data.num_classes, rank.device)
    when = {"epoch": epoch, "num_epochs": options.epochs}
    # 1. Batches, loss weights and augmentation of the epoch: M samples in order, over all ranks.
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
    choices = objective.draw(data, len(order), generator).to(rank.device)
    # Gradients are averaged over the ranks; times world_size makes that their sum.
    weights = (rank.world_size * loss_weights(data, objective.mean_rule, batches, **when)).to(rank.device)  # (M,)
    inner_weights = sample_class_weights(data, objective.inner_rule, order, **when).to(rank.device)  # (M,)
    ordered_targets = data.train.targets[order.to(rank.device)]  # (M,), or (M, C) probabilities
    rows = rows_by_step(batches, num_labelled=data.num_labelled, device=rank.device)
    local_images = image_batches(data.train.images, [batch.indices[batch.part] for batch in batches], rank.device)
    for gathered in (objective.pseudo_label_totals, objective.image_pseudo_labels):
        if gathered:
            gathered.values.zero_()
    # 2. Step by step: this rank's part of the batch.
    step_start = 0
    if watch:
        watch.begin_epoch(epoch + 1, num_steps=len(batches), totals=totals)
    for number, (batch, images) in enumerate(zip(batches, local_images, strict=True)):  # (n, C, H, W) uint8
        local = slice(step_start + batch.part.start, step_start + batch.part.stop)
        step_start += len(batch.indices)
        drawn = choices.part(local)
        inputs, targets = objective.training_inputs(data, images, ordered_targets[local], drawn)
        labelled, unlabeled = rows[number]
        step = Step(
            number=epoch * len(batches) + number,
            num_steps=options.epochs * len(batches),
            inputs=inputs,
            targets=targets,
            class_weights=inner_weights[local],
            choices=drawn,
            labelled=labelled,
            unlabeled=unlabeled,
        )
        rate = learning_rate(options.lr_schedule, options.learning_rate, share=number / len(batches), **when)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rank.beat("forward")
        optimizer.zero_grad(set_to_none=True)
        with autocast(options.precision, rank.device):
            outputs = model(*objective.model_inputs(step))  # (n, num_classes)
        logits, losses = objective.losses(outputs, step)  # losses: (n,), or (2 n,) with two anchors per image
        # (n,): the loss of an image with two anchors is their mean.
        image_losses = losses.view(len(images), -1).mean(dim=1)
        rank.beat("backward")
        (image_losses * weights[local]).sum().backward()
        optimizer.step()
        objective.after_step(step)
        # Of two views of an image the first is counted.
        totals.add(logits[: len(targets)].detach(), hard_targets(targets), losses.detach())
        if watch:
            watch.step_done()
    if watch and not totals.values.isfinite().all():
        watch.report_now()  # the last report of this run
    sum_over_ranks(totals.values, rank)
    if objective.pseudo_label_totals:
        sum_over_ranks(objective.pseudo_label_totals.values, rank)
    if objective.image_pseudo_labels:
        max_over_ranks(objective.image_pseudo_labels.values, rank)
    return totals.as_lists()


def _learns_batch_norm(model: nn.Module, task: Task) -> bool:
    """Whether batch statistics are computed in training."""
    return any(isinstance(it, _BATCH_NORM) and not _is_frozen(it, task.objective) for it in model.modules())


def _is_frozen(batch_norm: nn.Module, objective: Objective) -> bool:
    # A companion network, like that of MoCo's keys, takes no gradients either, but uses the statistics of its batches.
    return objective.has_frozen_layers and not any(it.requires_grad for it in batch_norm.parameters())


def _remedy_of_divergence(optimizer: torch.optim.Optimizer | None, rate: float) -> str:
    if optimizer is None:
        return "choose other options for the classifier, or another checkpoint"
    return f"lower --lr (it is {rate:g})"


def _set_training_mode(model: nn.Module, objective: Objective) -> None:
    """Set training mode, except for the batch norm of frozen layers, which keeps its running statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BATCH_NORM) and _is_frozen(module, objective):
            module.eval()


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The generator of an epoch's random choices: a function of seed and epoch alone."""
    mixed = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) >> 1)
