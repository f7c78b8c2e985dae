"""The training loop, the same for supervised, semi-supervised and self-supervised training and for classifiers alone.

An epoch's batches, loss weights and random choices are drawn when it begins (training/epoch_plan.py). Then its steps
are taken one by one (StepRunner.take_step in training/step_runner.py: forward, loss, backward, optimizer), or replayed
as a CUDA graph (training/step_graphs.py).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import TRAIN, UNLABELED
from longtail.training.batches import epoch_size, num_steps
from longtail.training.distributed import Rank, max_over_ranks, share_buffers, sum_over_ranks, with_averaged_gradients
from longtail.training.epoch_plan import EpochPlan, plan_epoch
from longtail.training.evaluation import evaluate, evaluate_all, evaluate_with_predictions
from longtail.training.finite import check_totals, check_weights
from longtail.training.images import image_batches
from longtail.training.metrics import ClassTotals, Predictions, Totals
from longtail.training.objective import Task
from longtail.training.precision import compile_model
from longtail.training.schedule import learning_rate
from longtail.training.semi.image_pseudo_labels import ImagePseudoLabels
from longtail.training.step import rows_by_step
from longtail.training.step_graphs import TrainingGraphs, training_graphs
from longtail.training.step_runner import StepRunner, learns_batch_norm, set_training_mode
from longtail.training.step_sizes import check_step_sizes
from longtail.training.step_watch import StepReport, StepWatch


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """Measurements of one epoch.

    epoch: number of finished epochs, from 1
    learning_rate: of the epoch's first step; None if nothing is learned, as by tau-normalisation
    positive_rank, num_candidates: of contrastive pre-training, else None (training/contrastive.py)
    totals: per-class sums over all ranks, by split; held-out splits only in epochs that are evaluated
    predictions: predictions by held-out split, likewise
    pseudo_labels: per-class sums over the pseudo-labels, if the true classes are known (training/semi/truth.py)
    image_pseudo_labels: the latest pseudo-label of each unlabeled image, if the steps make them
    """

    epoch: int
    learning_rate: float | None
    totals: dict[str, Totals]
    predictions: dict[str, Predictions]
    pseudo_labels: Totals | None
    image_pseudo_labels: ImagePseudoLabels | None
    epoch_seconds: float
    images_per_second: float
    positive_rank: float | None = None
    num_candidates: float | None = None

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
    check_step_sizes(images, steps, rank.world_size, batch_norm=bool(optimizer) and learns_batch_norm(model, task))
    runner = _runner(model, optimizer, task, options, rank) if optimizer else None
    graphs = training_graphs(runner, model) if runner else None
    totals = evaluate_all(model, task, rank) if first_epoch >= options.epochs else {}
    check_totals(totals, when="in the checkpoint", remedy="train again with a lower --lr")
    watch = StepWatch(on_steps) if on_steps else None
    for epoch in range(first_epoch, options.epochs):
        started = time.monotonic()
        rate = learning_rate(options.lr_schedule, options.learning_rate, epoch=epoch, num_epochs=options.epochs)
        # 1. Learn from every sample once (or from the drawn ones, when resampling).
        if runner:
            train_totals = _train_epoch(runner, graphs, epoch=epoch, watch=watch)
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
        held_out, predictions = {}, {}
        if is_due:
            held_out, predictions = graphs.measure() if graphs else evaluate_with_predictions(model, task, rank)
        totals = {TRAIN: train_totals, **held_out}
        pseudo_label_totals = task.objective.pseudo_label_totals
        report = EpochReport(
            epoch=epoch + 1,
            learning_rate=rate if runner else None,
            totals=totals,
            predictions=predictions,
            pseudo_labels=pseudo_label_totals.as_lists() if pseudo_label_totals else None,
            image_pseudo_labels=task.objective.image_pseudo_labels,
            epoch_seconds=time.monotonic() - started,
            images_per_second=images / train_seconds,
            **task.objective.epoch_scores(),
        )
        check_totals(report.all_totals, **context)
        # 3. Report: events, checkpoint, logs.
        on_epoch(report)
    return totals


def _runner(
    model: nn.Module, optimizer: torch.optim.Optimizer, task: Task, options: RunOptions, rank: Rank
) -> StepRunner:
    trained = compile_model(with_averaged_gradients(model, rank), options, rank.device)
    return StepRunner(trained, optimizer, task, options, rank, ClassTotals.zeros(task.data.num_classes, rank.device))


def _train_epoch(runner: StepRunner, graphs: TrainingGraphs | None, *, epoch: int, watch: StepWatch | None) -> Totals:
    """Learn from an epoch, counted from 0; its sums over all ranks."""
    task, rank, totals = runner.task, runner.rank, runner.totals
    objective = task.objective
    set_training_mode(runner.model, task)
    plan = plan_epoch(task, runner.options, rank, epoch=epoch)
    labels = [objective.image_pseudo_labels.values] if objective.image_pseudo_labels else []
    for gathered in (totals.values, *objective.epoch_sums(), *labels):
        gathered.zero_()
    if watch:
        watch.begin_epoch(epoch + 1, learning_rates=plan.rates, totals=totals)
    if graphs:
        graphs.take_steps(plan, watch)
    else:
        _take_steps(runner, plan, watch)
    if watch and not totals.values.isfinite().all():
        watch.report_now()  # the last report of this run
    for sums in (totals.values, *objective.epoch_sums()):
        sum_over_ranks(sums, rank)
    if objective.image_pseudo_labels:
        max_over_ranks(objective.image_pseudo_labels.values, rank)
    return totals.as_lists()


def _take_steps(runner: StepRunner, plan: EpochPlan, watch: StepWatch | None) -> None:
    """Take the steps one by one: this rank's part of each batch."""
    data, rank = runner.task.data, runner.rank
    rows = rows_by_step(plan.batches, num_labelled=data.num_labelled, device=rank.device)
    local_images = image_batches(data.train.images, [it.indices[it.part] for it in plan.batches], rank.device)
    step_start = 0
    for number, (batch, images) in enumerate(zip(plan.batches, local_images, strict=True)):  # (n, C, H, W) uint8
        local = slice(step_start + batch.part.start, step_start + batch.part.stop)
        step_start += len(batch.indices)
        labelled, unlabeled = rows[number]
        runner.set_learning_rate(plan.rates[number])
        runner.take_step(
            images,
            plan.samples.part(local),
            number=plan.epoch * len(plan.batches) + number,
            num_steps=runner.options.epochs * len(plan.batches),
            labelled=labelled,
            unlabeled=unlabeled,
        )
        if watch:
            watch.step_done()


def _remedy_of_divergence(optimizer: torch.optim.Optimizer | None, rate: float) -> str:
    if optimizer is None:
        return "choose other options for the classifier, or another checkpoint"
    return f"lower --lr (it is {rate:g})"
