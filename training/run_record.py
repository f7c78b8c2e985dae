"""What rank 0 keeps of a run in progress."""

import torch
from torch import nn

from longtail.conf.options.pretraining import PRETRAININGS
from longtail.conf.options.training import RunOptions
from longtail.conf.vocabulary import TEST, TRAIN, VAL
from longtail.data.manifest import read_manifest
from longtail.training.checkpoint_metadata import BestEpoch, CheckpointMetadata
from longtail.training.checkpoints import (
    Checkpoint,
    companion_of,
    save_checkpoint,
)
from longtail.training.kept_predictions import PredictionRecord
from longtail.training.loop import EpochReport
from longtail.training.metrics import class_accuracy, summarise
from longtail.training.objective import Task
from longtail.training.run_directory import BEST_CHECKPOINT_FILE, CHECKPOINT_FILE, RunPaths
from longtail.training.run_events import RunEvents
from longtail.training.run_log import RunLog
from longtail.training.scalar_log import ScalarLog

TENSORBOARD_DIRECTORY = "tensorboard"


class RunRecord:
    """Rank 0's record of a run in progress: predictions, events, TensorBoard scalars, checkpoints, log."""

    def __init__(
        self,
        model: nn.Module,
        network: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        task: Task,
        options: RunOptions,
        paths: RunPaths,
        events: RunEvents,
        log: RunLog,
        *,
        first_epoch: int,
        best: BestEpoch | None,
    ) -> None:
        self.best = best
        self._model, self._network, self._optimizer, self._task = model, network, optimizer, task
        self._options, self._paths, self._events, self._log = options, paths, events, log
        self._groups = task.data.shot_groups
        self._run = paths.run_dir.name
        self._manifest = read_manifest(paths.set_dir)
        self._predictions = PredictionRecord(task.data, options, paths, self._manifest)
        # If a killed attempt logged an epoch but did not save it, TensorBoard keeps the repetition.
        self._scalars = ScalarLog(paths.run_dir / TENSORBOARD_DIRECTORY, purge_step=first_epoch + 1)

    def __enter__(self) -> "RunRecord":
        return self

    def __exit__(self, *exception: object) -> None:
        self._scalars.close()

    def add(self, report: EpochReport) -> None:
        # The images' predictions before the events, whose confusion matrix readers compare with them.
        # Events before the checkpoint: a run killed between the two repeats the epoch, and readers use the later
        # attempt; in the other order the epoch's events would be lost.
        self._predictions.add(report.predictions, report.image_pseudo_labels, epoch=report.epoch)
        self._events.epoch(report)
        scores = {split: summarise(totals, self._groups) for split, totals in report.all_totals.items()}
        self._log_scalars(report, scores)
        self._save(report)
        self._log.add(self._line(report, scores))

    def _line(self, report: EpochReport, scores: dict[str, dict[str, float | None]]) -> str:
        """What an epoch measured, for the log. scores: by split"""
        parts = []
        for split in report.totals:
            is_task = split == TRAIN or self._options.phase in PRETRAININGS
            score = "accuracy" if is_task else "balanced_accuracy"
            loss, share = scores[split]["loss"], scores[split][score]
            if loss is not None and share is not None:
                parts.append(f"{split} loss {loss:.4f}, {score.replace('_', ' ')} {100 * share:.1f} %")
        if report.learning_rate is not None:
            parts.append(f"learning rate {report.learning_rate:.4g}")
        parts.append(f"{report.images_per_second:,.0f} images/s, {report.epoch_seconds:.1f} s")
        return f"epoch {report.epoch}/{self._options.epochs}: {'; '.join(parts)}"

    def _log_scalars(self, report: EpochReport, scores: dict[str, dict[str, float | None]]) -> None:
        values: dict[str, float | None] = {
            "learning_rate": report.learning_rate,
            "images_per_second": report.images_per_second,
        }
        for split, totals in report.all_totals.items():
            values |= {f"{split}/{name}": value for name, value in scores[split].items()}
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
            metadata=CheckpointMetadata(
                run=self._run,
                phase=self._options.phase,
                arch=self._options.arch,
                head=objective.head,
                logit_scale=objective.logit_scale,
                class_names=data.class_names,
                class_counts=data.class_counts,
                rule_counts=data.rule_counts,
                pseudo_label_round=data.pseudo_label_round,
                image_shape=self._manifest.image_shape,
                normalisation=data.normalisation,
                options=self._options.recorded(),
                set_identity=self._manifest.identity,
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
