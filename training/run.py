"""Training of one rank, from loading the data to the result.

Runs in a task of a Spark barrier stage or in a process started by torchrun or by hand.
"""

from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_json_atomically
from longtail.conf.base.locations import Location
from longtail.conf.options.pretraining import PRETRAININGS
from longtail.conf.options.training import RunOptions, TrainOptions
from longtail.conf.vocabulary import TEST, VAL
from longtail.data.class_names import check_same_order, class_order
from longtail.data.manifest import Manifest, read_manifest
from longtail.models.heads import ReorderedHead
from longtail.models.network import Network
from longtail.streaming.events.writer import EventWriter
from longtail.training.checkpoint_heads import check_foreign_classifier, check_phase, head_of_checkpoint
from longtail.training.checkpoints import (
    Checkpoint,
    companion_of,
    load_checkpoint,
    load_companion,
    save_checkpoint,
)
from longtail.training.distributed import Rank
from longtail.training.evaluation import evaluate_all, predict_all, split_features
from longtail.training.finite import check_totals
from longtail.training.heartbeat import Heartbeat
from longtail.training.loop import EpochReport, build_optimizer, fit
from longtail.training.losses import log_priors, logit_scale_of
from longtail.training.method import method_of
from longtail.training.metrics import Predictions, Totals, class_accuracy, split_scores, summarise
from longtail.training.model_card import BestEpoch, ModelCard
from longtail.training.networks import load_into, new_network
from longtail.training.objective import Task
from longtail.training.optimizer_state import load_momentum
from longtail.training.run_directory import BEST_CHECKPOINT_FILE, CHECKPOINT_FILE, RESULT_FILE, RunPaths
from longtail.training.run_events import RunEvents, report_failure
from longtail.training.scalar_log import ScalarLog
from longtail.training.supervised import supervised_task
from longtail.training.training_data import TrainingData

TENSORBOARD_DIRECTORY = "tensorboard"


def run_training(options: RunOptions, paths: RunPaths, rank: Rank, *, attempt: int) -> dict[str, Any]:
    """Train or resume a run; rank 0 writes result.json and returns its content, other ranks return {}.

    Raises UserError for bad input.
    """
    with Heartbeat(paths.heartbeats_dir, rank=rank.rank) as heartbeat:
        return _run_training(options, paths, replace(rank, beat=heartbeat.beat), attempt=attempt)


def _run_training(options: RunOptions, paths: RunPaths, rank: Rank, *, attempt: int) -> dict[str, Any]:
    method = method_of(options)
    manifest = read_manifest(paths.set_dir)
    task = method.task(options, paths, manifest, rank)
    task, network = method.network(options, task, rank)
    task, model = method.learner(network, options, task, rank)
    optimizer = build_optimizer(model, options)
    first_epoch, best = _restore(model, network, optimizer, task, options, paths)
    if not rank.is_first:
        fit(model, optimizer, task, options, rank, first_epoch=first_epoch, on_epoch=lambda report: None)
        predict_all(model, task, rank)
        return {}
    run = paths.run_dir.name
    writer = EventWriter(paths.events_dir, run=run, attempt=attempt)
    events = RunEvents(writer, task.data, options, run=run, attempt=attempt)
    with report_failure(writer, options, run=run, attempt=attempt, describe=_failure_line):
        events.started(epoch=first_epoch)
        with _Reporter(
            model, network, optimizer, task, options, paths, events, first_epoch=first_epoch, best=best
        ) as reporter:
            totals = fit(
                model,
                optimizer,
                task,
                options,
                rank,
                first_epoch=first_epoch,
                on_epoch=reporter.record,
                on_steps=events.steps,
            )
        predictions = predict_all(model, task, rank)
        result = _result(
            run,
            task,
            phase=options.phase,
            epoch=options.epochs,
            totals=totals,
            predictions=predictions,
            best=reporter.best,
            manifest=manifest,
        )
        write_json_atomically(paths.run_dir / RESULT_FILE, result)
        events.finished()
    return result


def _failure_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def run_evaluation(options: TrainOptions, paths: RunPaths, rank: Rank) -> dict[str, Any]:
    """Evaluate the checkpoint of --resume on the held-out splits, without training; returns the result.

    Rank 0 writes the files of --features and --tsne, and nothing else.
    """
    assert options.resume is not None
    # Held-out images alone are evaluated, whatever the checkpoint learned from.
    manifest = read_manifest(paths.set_dir)
    task = supervised_task(options, paths.set_dir, manifest, rank.device)
    checkpoint = load_checkpoint(options.resume)
    check_phase(checkpoint, path=options.resume)
    card, order = checkpoint.model_card, None
    if card is None:
        check_foreign_classifier(checkpoint, path=options.resume, num_classes=task.data.num_classes)
        head = head_of_checkpoint(checkpoint)
        task = task.with_objective(head=head, logit_scale=logit_scale_of(head, options))
    else:
        order = class_order(card.class_names, task.data.class_names, file=options.resume, of=paths.set_dir)
        card = card.in_order(order)
        temperature = card.calibration.scaling.temperature if card.calibration else 1.0
        task = task.with_objective(head=card.head, logit_scale=card.logit_scale / temperature)
        task = task.with_data(class_counts=card.class_counts, pseudo_label_round=card.pseudo_label_round)
    model = new_network(options, task, rank)
    load_into(model, options.resume, options)
    if order is not None:
        model.fc = ReorderedHead(model.fc, order).to(rank.device)
    adjustment = None
    if options.logit_adjustment is not None:
        # The class counts that the weights were trained with; a checkpoint of another origin has none.
        priors = log_priors(card.rule_counts if card else task.data.rule_counts)
        adjustment = options.logit_adjustment * priors.to(rank.device)
    if card and card.calibration:
        biases = torch.tensor(card.calibration.scaling.biases, device=rank.device)
        adjustment = -biases if adjustment is None else adjustment - biases
    totals = evaluate_all(model, task, rank, adjustment=adjustment)
    check_totals(totals, when=f"with {options.resume}", remedy="evaluate another checkpoint")
    predictions = predict_all(model, task, rank, adjustment=adjustment)
    if options.features or options.tsne:
        _export_features(options, model, task, rank, predictions)
    run = options.resume.parent.name
    return _result(
        run,
        task,
        phase=options.phase,
        epoch=checkpoint.epoch,
        totals=totals,
        predictions=predictions,
        best=checkpoint.best,
        manifest=manifest,
    )


def _export_features(
    options: TrainOptions, model: Network, task: Task, rank: Rank, predictions: dict[str, Predictions]
) -> None:
    # Imported here, as scikit-learn and matplotlib take seconds to load.
    from longtail.training.features import write_features, write_tsne_plot

    features = {split: split_features(model, samples, task, rank) for split, samples in task.data.held_out.items()}
    if not rank.is_first:
        return
    if options.features:
        write_features(options.features, task.data.held_out, predictions, features)
    if options.tsne:
        write_tsne_plot(options.tsne, task.data.held_out[TEST], features[TEST], task.data, seed=options.seed)


def _restore(
    model: nn.Module,
    network: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    task: Task,
    options: RunOptions,
    paths: RunPaths,
) -> tuple[int, BestEpoch | None]:
    """Load the checkpoint that the run starts from; returns the first epoch to train (from 0) and the best so far.

    The run's own last checkpoint takes precedence (the same command resumes it), then --resume; without either,
    nothing is loaded.
    """
    own = paths.run_dir / CHECKPOINT_FILE
    source = own if own.exists() else options.continues_from
    if source is not None:
        is_same_set = _check_classes(source, task, options, paths)
        checkpoint = load_into(network, source, options)
        load_companion(model, network, checkpoint, path=source)
        if optimizer and checkpoint.optimizer is None:
            raise UserError(f"{source} has no optimizer state to resume from: give it as --pretrained_model")
        if checkpoint.epoch > options.epochs:
            raise UserError(f"{source} has {checkpoint.epoch} finished epochs: raise --epochs ({options.epochs})")
        if optimizer and checkpoint.optimizer:
            load_momentum(optimizer, checkpoint.optimizer, path=source)
        # Scores of another set's validation images are no measure for this one's.
        return checkpoint.epoch, checkpoint.best if is_same_set else None
    return 0, None


def _check_classes(path: Location, task: Task, options: RunOptions, paths: RunPaths) -> bool:
    """Whether a checkpoint is of the training's set, or may be: one of version 1 does not say.

    Raises UserError if the training cannot go on from it, as its classes or their order are others.
    """
    checkpoint = load_checkpoint(path)
    check_phase(checkpoint, path=path, phase=options.phase)
    card = checkpoint.model_card
    is_same_set = card is None or card.set_identity in (None, read_manifest(paths.set_dir).identity)
    if options.phase in PRETRAININGS:
        return is_same_set
    if card is None:
        check_foreign_classifier(checkpoint, path=path, num_classes=task.data.num_classes)
        return is_same_set
    check_same_order(
        card.class_names,
        task.data.class_names,
        file=path,
        of=paths.set_dir,
        remedy="a training goes on in the order that it began with; prepare the set in that order, or train anew",
    )
    return is_same_set


class _Reporter:
    """Rank 0's record of a run in progress: events, TensorBoard scalars, checkpoints."""

    def __init__(
        self,
        model: nn.Module,
        network: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        task: Task,
        options: RunOptions,
        paths: RunPaths,
        events: RunEvents,
        *,
        first_epoch: int,
        best: BestEpoch | None,
    ) -> None:
        self.best = best
        self._model, self._network, self._optimizer, self._task = model, network, optimizer, task
        self._options, self._paths, self._events = options, paths, events
        self._groups = task.data.shot_groups
        self._run = paths.run_dir.name
        self._set_identity = read_manifest(paths.set_dir).identity
        # If a killed attempt logged an epoch but did not save it, TensorBoard keeps the repetition.
        self._scalars = ScalarLog(paths.run_dir / TENSORBOARD_DIRECTORY, purge_step=first_epoch + 1)

    def __enter__(self) -> "_Reporter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._scalars.close()

    def record(self, report: EpochReport) -> None:
        # Events before the checkpoint: a run killed between the two repeats the epoch, and readers use the later
        # attempt; in the other order the epoch's events would be lost.
        self._events.epoch(report)
        self._log_scalars(report)
        self._save(report)

    def _log_scalars(self, report: EpochReport) -> None:
        values: dict[str, float | None] = {
            "learning_rate": report.learning_rate,
            "images_per_second": report.images_per_second,
        }
        for split, totals in report.all_totals.items():
            values |= {f"{split}/{name}": value for name, value in summarise(totals, self._groups).items()}
            accuracies = zip(self._task.data.class_names, class_accuracy(totals), strict=True)
            values |= {f"{split}_class/{name}": accuracy for name, accuracy in accuracies}
        self._scalars.write(values, step=report.epoch)

    def _save(self, report: EpochReport) -> None:
        improved = self._update_best(report)
        data, objective = self._task.data, self._task.objective
        checkpoint = Checkpoint(
            epoch=report.epoch,
            arch=self._options.arch,
            state_dict=self._network.state_dict(),
            companion=companion_of(self._model, self._network),
            optimizer=self._optimizer.state_dict() if self._optimizer else None,
            best=self.best,
            model_card=ModelCard(
                run=self._run,
                phase=self._options.phase,
                arch=self._options.arch,
                head=objective.head,
                logit_scale=objective.logit_scale,
                class_names=data.class_names,
                class_counts=data.class_counts,
                rule_counts=data.rule_counts,
                pseudo_label_round=data.pseudo_label_round,
                image_shape=_image_shape(data),
                normalisation=data.normalisation,
                options=self._options.recorded(),
                set_identity=self._set_identity,
            ),
        )
        # The best first: a run killed between the two repeats the epoch and writes both again.
        if improved:
            save_checkpoint(self._paths.run_dir / BEST_CHECKPOINT_FILE, checkpoint)
        save_checkpoint(self._paths.run_dir / CHECKPOINT_FILE, checkpoint)

    def _update_best(self, report: EpochReport) -> bool:
        if VAL not in report.totals:
            return False
        score = summarise(report.totals[VAL], self._groups)["balanced_accuracy"]
        if score is None or (self.best is not None and score <= self.best.val_balanced_accuracy):
            return False
        test_scores = summarise(report.totals[TEST], self._groups)
        self.best = BestEpoch(epoch=report.epoch, val_balanced_accuracy=score, test_scores=test_scores)
        return True


def _image_shape(data: TrainingData) -> tuple[int, int, int]:
    channels, height, width = data.train.image_shape
    return height, width, channels


def _result(
    run: str,
    task: Task,
    *,
    phase: str,
    epoch: int,
    totals: dict[str, Totals],
    predictions: dict[str, Predictions],
    best: BestEpoch | None,
    manifest: Manifest,
) -> dict[str, Any]:
    """Content of result.json: scores at the last epoch, and at the one chosen on validation data (None without).

    Scores that need every prediction are given for the held-out splits only.
    """
    data = task.data
    groups = data.shot_groups
    return {
        "run": run,
        "phase": phase,
        "epoch": epoch,
        "class_names": data.class_names,
        "class_counts": data.class_counts,
        "pseudo_label_round": data.pseudo_label_round,
        "shot_groups": groups,
        "best_on_validation": asdict(best) if best else None,
        "chosen_on_validation": task.objective.chosen,
        "copies": manifest.copies,
        "splits": {split: split_scores(values, predictions.get(split), groups) for split, values in totals.items()},
    }
