"""One rank's whole training: load, build, resume, learn, report.

Runs in a task of the Spark barrier stage, or in any process that torchrun (or
nobody) started; it does not know which.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from tensorboardX import SummaryWriter
from torch import nn

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_json_atomically
from longtail.conf.options.pretraining import (
    ContrastiveOptions,
    PretrainMocoOptions,
    PretrainRotOptions,
    PretrainSimclrOptions,
)
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import RunOptions, SupervisedOptions, TrainClassifierOptions, TrainOptions
from longtail.conf.vocabulary import TEST, VAL
from longtail.data.manifest import read_manifest
from longtail.models.build import build_model
from longtail.streaming.events.writer import EventWriter
from longtail.training.checkpoints import (
    BestEpoch,
    Checkpoint,
    ModelCard,
    check_architecture,
    companion_of,
    load_checkpoint,
    load_companion,
    load_weights,
    save_checkpoint,
)
from longtail.training.classifier import second_stage
from longtail.training.contrastive import MoCo, SimCLR
from longtail.training.distributed import Rank
from longtail.training.evaluation import evaluate_all, predict_all, split_features
from longtail.training.fixmatch import fixmatch_learner, fixmatch_task
from longtail.training.heartbeat import Heartbeat
from longtail.training.loop import EpochReport, build_optimizer, fit
from longtail.training.losses import log_priors
from longtail.training.metrics import Predictions, Totals, class_accuracy, split_scores, summarise
from longtail.training.pseudo_labels import semi_supervised_task
from longtail.training.run_directory import BEST_CHECKPOINT_FILE, CHECKPOINT_FILE, RESULT_FILE, RunPaths
from longtail.training.run_events import RunEvents, failure_told
from longtail.training.tasks import Task, contrastive_task, rotation_task, supervised_task

TENSORBOARD_DIRECTORY = "tensorboard"


def run_training(options: RunOptions, paths: RunPaths, rank: Rank, *, attempt: int) -> dict[str, Any]:
    """Train (or go on with) a run; rank 0 leaves the result in result.json and returns it, other ranks return {}.

    Raises UserError for bad input.
    """
    with Heartbeat(paths.heartbeats_dir, rank=rank.rank) as heartbeat:
        return _run_training(options, paths, replace(rank, alive=heartbeat.beat), attempt=attempt)


def _run_training(options: RunOptions, paths: RunPaths, rank: Rank, *, attempt: int) -> dict[str, Any]:
    task = _task(options, paths, rank)
    if isinstance(options, TrainClassifierOptions):
        task, network = second_stage(options, task, rank)
    else:
        network = _model(options, task, rank)
        _load_pretrained(network, options)
    task, model = _learner(network, options, task, rank)
    optimizer = build_optimizer(model, options)
    first_epoch, best = _restore(model, network, optimizer, options, paths)
    if not rank.is_first:
        fit(model, optimizer, task, options, rank, first_epoch=first_epoch, on_epoch=lambda report: None)
        predict_all(model, task, rank)
        return {}
    run = paths.run_dir.name
    writer = EventWriter(paths.events_dir, run=run, attempt=attempt)
    events = RunEvents(writer, task, options, run=run, attempt=attempt)
    with failure_told(writer, options, run=run, attempt=attempt, say=_failure_line):
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
        result = _result(run, task, epoch=options.epochs, totals=totals, predictions=predictions, best=reporter.best)
        write_json_atomically(paths.run_dir / RESULT_FILE, result)
        events.finished()
    return result


def _failure_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def run_evaluation(options: TrainOptions, paths: RunPaths, rank: Rank) -> dict[str, Any]:
    """Scores of the checkpoint named by --resume on the held-out splits; nothing is trained.

    Rank 0 writes the files that --features and --tsne name, and nothing else.
    """
    assert options.resume is not None
    task = _task(options, paths, rank)
    card = load_checkpoint(options.resume).model_card
    if card is not None:
        task = replace(task, head=card.head, logit_scale=card.logit_scale, pseudo_label_round=card.pseudo_label_round)
    model = _model(options, task, rank)
    checkpoint = _load_into(model, options.resume, options)
    adjustment = None
    if options.logit_adjustment is not None:
        # The prior that the weights were trained under; a checkpoint of another origin does not say it.
        priors = log_priors(card.rule_counts if card else task.rule_counts)
        adjustment = options.logit_adjustment * priors.to(rank.device)
    totals = evaluate_all(model, task, rank, adjustment=adjustment)
    predictions = predict_all(model, task, rank, adjustment=adjustment)
    if options.features or options.tsne:
        _export_features(options, model, task, rank, predictions)
    run = options.resume.parent.name
    return _result(run, task, epoch=checkpoint.epoch, totals=totals, predictions=predictions, best=checkpoint.best)


def _export_features(
    options: TrainOptions, model: nn.Module, task: Task, rank: Rank, predictions: dict[str, Predictions]
) -> None:
    # scikit-learn and matplotlib take seconds to import: only who asks for features waits for them.
    from longtail.training.features import write_features, write_tsne_plot

    features = {split: split_features(model, samples, task, rank) for split, samples in task.evaluation.items()}
    if not rank.is_first:
        return
    if options.features:
        write_features(options.features, task.evaluation, predictions, features)
    if options.tsne:
        write_tsne_plot(options.tsne, task.evaluation[TEST], features[TEST], task, seed=options.seed)


def _task(options: RunOptions, paths: RunPaths, rank: Rank) -> Task:
    manifest = read_manifest(paths.set_dir)
    if isinstance(options, TrainSemiOptions) and options.semi_method == "fixmatch":
        return fixmatch_task(options, paths.set_dir, manifest, rank.device, pseudo_labels=paths.pseudo_labels)
    if isinstance(options, TrainSemiOptions):
        assert paths.pseudo_labels is not None
        return semi_supervised_task(options, paths.set_dir, manifest, rank.device, pseudo_labels=paths.pseudo_labels)
    if isinstance(options, SupervisedOptions):
        return supervised_task(options, paths.set_dir, manifest, rank.device)
    if isinstance(options, PretrainMocoOptions):
        return contrastive_task(options, paths.set_dir, manifest, rank.device, anchors_per_image=1)
    if isinstance(options, PretrainSimclrOptions):
        return contrastive_task(options, paths.set_dir, manifest, rank.device, anchors_per_image=2)
    assert isinstance(options, PretrainRotOptions)
    return rotation_task(options, paths.set_dir, manifest, rank.device)


def _model(options: RunOptions, task: Task, rank: Rank) -> nn.Module:
    """The network of the options and of the task's head, freshly initialised."""
    torch.manual_seed(options.seed)
    channels = task.train.image_shape[0]
    num_outputs = options.projection_dim if isinstance(options, ContrastiveOptions) else len(task.class_names)
    model = build_model(options.arch, num_classes=num_outputs, in_channels=channels, head=task.head)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = options.bn_momentum
    return model.to(rank.device, memory_format=torch.channels_last)


def _load_pretrained(network: nn.Module, options: RunOptions) -> None:
    """The backbone of --pretrained_model: what goes on from a checkpoint replaces it with that of the checkpoint."""
    if isinstance(options, TrainOptions) and options.pretrained_model is not None:
        _load_into(network, options.pretrained_model, options, backbone_only=True)


def _learner(network: nn.Module, options: RunOptions, task: Task, rank: Rank) -> tuple[Task, nn.Module]:
    """What the loop trains: the network itself, or with all that a contrastive or FixMatch training puts around it.

    And the task that learns by it.
    """
    if isinstance(options, TrainSemiOptions) and options.semi_method == "fixmatch":
        return fixmatch_learner(network, options, task, rank)
    if isinstance(options, PretrainMocoOptions):
        return task, MoCo(
            network,
            rank,
            dimension=options.projection_dim,
            # Of a queue as long as an epoch, half of the images would meet their own older key as another image's;
            # of a quarter, one in 32.
            queue_size=min(options.queue_size, max(1, len(task.train) // 4)),
            key_momentum=options.key_momentum,
            temperature=options.temperature,
        )
    if isinstance(options, PretrainSimclrOptions):
        return task, SimCLR(network, rank, temperature=options.temperature)
    return task, network


def _restore(
    model: nn.Module, network: nn.Module, optimizer: torch.optim.Optimizer | None, options: RunOptions, paths: RunPaths
) -> tuple[int, BestEpoch | None]:
    """Load what the run starts from; the first epoch to train (from 0), and the best so far.

    Its own last checkpoint goes first (the same command again goes on), then --resume; without any, nothing is loaded.
    A classifier alone has its backbone from --resume already.
    """
    own = paths.run_dir / CHECKPOINT_FILE
    resume = None if isinstance(options, TrainClassifierOptions) else options.resume
    source = own if own.exists() else resume
    if source is not None:
        checkpoint = _load_into(network, source, options)
        load_companion(model, network, checkpoint, path=source)
        if optimizer and checkpoint.optimizer is None:
            raise UserError(f"{source} has no optimizer state to go on from: give it as --pretrained_model")
        if checkpoint.epoch > options.epochs:
            raise UserError(f"{source} has {checkpoint.epoch} finished epochs: raise --epochs ({options.epochs})")
        if optimizer:
            optimizer.load_state_dict(checkpoint.optimizer)
        return checkpoint.epoch, checkpoint.best
    return 0, None


def _load_into(model: nn.Module, path: Path, options: RunOptions, *, backbone_only: bool = False) -> Checkpoint:
    """Read a checkpoint and copy its weights. Raises UserError unless it is of this network."""
    checkpoint = load_checkpoint(path)
    check_architecture(checkpoint, options.arch, path=path)
    load_weights(model, checkpoint, path=path, backbone_only=backbone_only)
    return checkpoint


class _Reporter:
    """Rank 0's record of a run while it goes: events, TensorBoard scalars, checkpoints."""

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
        self._groups = task.shot_groups
        self._run = paths.run_dir.name
        # Of an epoch that a killed attempt logged but did not save, TensorBoard is told to keep the repetition.
        self._scalars = SummaryWriter(str(paths.run_dir / TENSORBOARD_DIRECTORY), purge_step=first_epoch + 1)

    def __enter__(self) -> "_Reporter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._scalars.close()

    def record(self, report: EpochReport) -> None:
        # Events before the checkpoint: a run killed between the two repeats the epoch, and readers take the later
        # attempt; the other way round the epoch's events would be lost for good.
        self._events.epoch(report)
        self._log_scalars(report)
        self._save(report)

    def _log_scalars(self, report: EpochReport) -> None:
        values = {"learning_rate": report.learning_rate, "images_per_second": report.images_per_second}
        for split, totals in report.all_totals.items():
            values |= {f"{split}/{name}": value for name, value in summarise(totals, self._groups).items()}
            accuracies = zip(self._task.class_names, class_accuracy(totals), strict=True)
            values |= {f"{split}_class/{name}": accuracy for name, accuracy in accuracies}
        for name, value in values.items():
            if value is not None:
                self._scalars.add_scalar(name, value, report.epoch)
        self._scalars.flush()

    def _save(self, report: EpochReport) -> None:
        improved = self._take_if_best(report)
        checkpoint = Checkpoint(
            epoch=report.epoch,
            arch=self._options.arch,
            state_dict=self._network.state_dict(),
            companion=companion_of(self._model, self._network),
            optimizer=self._optimizer.state_dict() if self._optimizer else None,
            best=self.best,
            model_card=ModelCard(
                run=self._run,
                phase=self._task.phase,
                arch=self._options.arch,
                head=self._task.head,
                logit_scale=self._task.logit_scale,
                class_names=self._task.class_names,
                class_counts=self._task.class_counts,
                rule_counts=self._task.rule_counts,
                pseudo_label_round=self._task.pseudo_label_round,
                image_shape=_image_shape(self._task),
                normalisation=self._task.normalisation,
                options=self._options.model_dump(mode="json"),
            ),
        )
        # The best first: a kill between the two repeats the epoch and writes both again.
        if improved:
            save_checkpoint(self._paths.run_dir / BEST_CHECKPOINT_FILE, checkpoint)
        save_checkpoint(self._paths.run_dir / CHECKPOINT_FILE, checkpoint)

    def _take_if_best(self, report: EpochReport) -> bool:
        if VAL not in report.totals:
            return False
        score = summarise(report.totals[VAL], self._groups)["balanced_accuracy"]
        if score is None or (self.best is not None and score <= self.best.val_balanced_accuracy):
            return False
        test_scores = summarise(report.totals[TEST], self._groups)
        self.best = BestEpoch(epoch=report.epoch, val_balanced_accuracy=score, test_scores=test_scores)
        return True


def _image_shape(task: Task) -> tuple[int, int, int]:
    channels, height, width = task.train.image_shape
    return height, width, channels


def _result(
    run: str,
    task: Task,
    *,
    epoch: int,
    totals: dict[str, Totals],
    predictions: dict[str, Predictions],
    best: BestEpoch | None,
) -> dict[str, Any]:
    """The outcome of a run at its last epoch, and at the one that validation chooses (None without validation).

    Scores that need every prediction are those of the held-out splits.
    """
    groups = task.shot_groups
    return {
        "run": run,
        "phase": task.phase,
        "epoch": epoch,
        "class_names": task.class_names,
        "class_counts": task.class_counts,
        "pseudo_label_round": task.pseudo_label_round,
        "shot_groups": groups,
        "best_on_validation": asdict(best) if best else None,
        "chosen_on_validation": task.chosen,
        "splits": {split: split_scores(values, predictions.get(split), groups) for split, values in totals.items()},
    }
